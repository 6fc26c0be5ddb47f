//! The keys of `[[program]]`, `[[budget]]` and `[export.NAME]`, and what must agree among them.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::str::FromStr as _;
use std::time::Duration;

use super::given::{self, Given, Read, choice, decimal, decimals, flag, meant, path, string, strings, whole};
use super::layers::Section;
use super::rules::{self, Budget, BudgetOf, Export, ExportKind, Fact, Matcher, NamePart, NameTemplate, ProgramRule, Target, Url};
use super::show;
use super::types::Settings;
use super::units::show_duration;
use crate::record::stream::Stream;

/// Asks for all three.
pub(super) fn ask(top: &mut Section<'_, '_>, settings: &mut Settings) {
    top.list("program", |section| settings.programs.extend(program(section)));
    top.list("budget", |section| {
        let Some(budget) = budget(section) else { return };
        if settings.budgets.iter().any(|other| other.name == budget.name) {
            section.wrong_key("name", format!("there is a budget '{}' already", budget.name));
        } else {
            settings.budgets.push(budget);
        }
    });
    top.section("export", |section| {
        for name in section.names() {
            section.section(&name, |section| {
                if !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-') || name.is_empty() {
                    section.wrong("the name of an exporter is letters, digits, _ and -".to_owned());
                }
                settings.exports.extend(export(section).map(|export| (name.clone(), export)));
            });
        }
    });
}

//--- Programs

fn program(section: &mut Section<'_, '_>) -> Option<ProgramRule> {
    let name = section.required("name", string, |name| show::string(name));
    let exe = section.optional("exe", matcher(Matcher::Glob), show_matcher);
    let comm = section.optional("comm", matcher(Matcher::Exact), show_matcher);
    let cmd = section.optional("cmd", anywhere, |pattern| show::string(pattern));
    let user = section.optional("user", matcher(Matcher::Exact), show_matcher);
    let cgroup = section.optional("cgroup", matcher(Matcher::Glob), show_matcher);
    let unit = section.optional("unit", matcher(Matcher::Glob), show_matcher);
    let expect = section.optional("expect", whole(0..=1_000_000), u64::to_string).and_then(|number| u32::try_from(number).ok());
    let (mut children, mut multi) = (true, false);
    section.ask("children", &mut children, flag, bool::to_string);
    section.ask("multi", &mut multi, flag, bool::to_string);

    let place = section.place();
    let name_to_come = NameTemplate { parts: Vec::new() };
    let mut rule = ProgramRule { name: name_to_come, exe, comm, cmd, user, cgroup, unit, expect, children, multi, place };
    let conditions = ["exe", "comm", "cmd", "user", "cgroup", "unit"];
    if !conditions.iter().any(|condition| section.says(condition)) {
        section.wrong(format!("[[program]] needs a condition, one of {}", conditions.join(", ")));
    }
    match template(&name?, &rule) {
        Ok(template) => rule.name = template,
        Err(message) => {
            section.wrong_key("name", message);
            return None;
        }
    }
    Some(rule)
}

/// `/…/` is a regular expression, all else what `plain` makes of it.
fn matcher(plain: impl Fn(String) -> Matcher) -> impl Fn(Given<'_>) -> Read<Matcher> {
    move |given| {
        let text = string(given)?;
        match slashed(&text) {
            Some(pattern) => Ok(Matcher::Regex(rule_pattern(pattern)?)),
            None => Ok(plain(text)),
        }
    }
}

/// A regular expression, with or without its slashes.
fn anywhere(given: Given<'_>) -> Read<String> {
    let text = string(given)?;
    Ok(rule_pattern(slashed(&text).unwrap_or(&text))?)
}

/// A pattern that compiles and is not too large, as it was said.
pub(super) fn rule_pattern(text: &str) -> Result<String, String> {
    rules::compile(text).map(|_| text.to_owned()).map_err(|error| given::bad_regex(text, &error))
}

fn slashed(text: &str) -> Option<&str> {
    text.strip_prefix('/')?.strip_suffix('/').filter(|pattern| !pattern.is_empty())
}

fn show_matcher(matcher: &Matcher) -> String {
    match matcher {
        Matcher::Exact(text) | Matcher::Glob(text) => show::string(text),
        Matcher::Regex(pattern) => show::string(&format!("/{pattern}/")),
    }
}

/// Cuts a name into its pieces; what stands in braces must be a fact or a capture of the rule.
fn template(name: &str, rule: &ProgramRule) -> Result<NameTemplate, String> {
    if !name.is_empty() && !name.contains(['{', '}']) {
        return Ok(NameTemplate { parts: vec![NamePart::Text(name.to_owned())] });
    }
    let regexes: Vec<regex::bytes::Regex> = rule.regexes().filter_map(|pattern| rules::compile(pattern).ok()).collect();
    let captures: Vec<&str> = regexes.iter().flat_map(|regex| regex.capture_names().flatten()).collect();
    let groups = regexes.iter().map(|regex| regex.captures_len() - 1).max().unwrap_or(0);
    let mut parts = Vec::new();
    let mut rest = name;
    while let Some(open) = rest.find(['{', '}']) {
        let (text, braces) = rest.split_at(open);
        if !text.is_empty() {
            parts.push(NamePart::Text(text.to_owned()));
        }
        let Some((word, after)) = braces.strip_prefix('{').and_then(|inner| inner.split_once('}')) else {
            return Err("name: a brace without its other half".to_owned());
        };
        parts.push(if let Some((_, fact)) = Fact::WORDS.iter().find(|(known, _)| *known == word) {
            NamePart::Fact(*fact)
        } else if let Some(number) = word.parse().ok().filter(|number| (1..=groups).contains(number)) {
            NamePart::Number(number)
        } else if captures.contains(&word) {
            NamePart::Capture(word.to_owned())
        } else {
            let known: Vec<&str> = Fact::WORDS.iter().map(|(fact, _)| *fact).chain(captures.iter().copied()).collect();
            let numbers = if groups > 0 { format!(" and the captures 1 to {groups}") } else { String::new() };
            let word = super::units::clip(word);
            return Err(format!(
                "name: {{{word}}} names nothing{} (known: {}{numbers})",
                meant(&word, known.iter().copied()),
                known.join(", ")
            ));
        });
        rest = after;
    }
    if !rest.is_empty() {
        parts.push(NamePart::Text(rest.to_owned()));
    }
    Ok(NameTemplate { parts })
}

//--- Budgets

fn budget(section: &mut Section<'_, '_>) -> Option<Budget> {
    let show_text = |text: &String| show::string(text);
    let number = || decimal(0.0..=1e12);
    let name = section.required("name", string, show_text);
    let program = section.optional("program", string, show_text);
    let user = section.optional("user", string, show_text);
    let cgroup = section.optional("cgroup", string, show_text);
    let earn = section.required("earn", number(), |number| show::number(*number));
    // A day's earnings may be kept, and are there at the start.
    let mut cap = earn.unwrap_or(0.0) * 24.0;
    section.ask("cap", &mut cap, number(), |number| show::number(*number));
    let mut start = cap;
    section.ask("start", &mut start, number(), |number| show::number(*number));
    let mut alert = vec![50.0, 20.0, 0.0];
    section.ask("alert", &mut alert, decimals(0.0..=100.0), |levels| {
        format!("[{}]", levels.iter().map(|level| show::number(*level)).collect::<Vec<_>>().join(", "))
    });
    alert.sort_by(|a, b| b.total_cmp(a));
    alert.dedup();
    if start > cap {
        section.wrong_key("start", format!("start: {start} is more than the cap, {cap}"));
    }
    let said = [program.map(BudgetOf::Program), user.map(BudgetOf::User), cgroup.map(BudgetOf::Cgroup)];
    let mut said = said.into_iter().flatten();
    let (first, second) = (said.next(), said.next());
    if first.is_none() || second.is_some() {
        section.wrong("[[budget]] needs one of program, user, cgroup".to_owned());
    }
    Some(Budget { name: name?, of: first?, earn: earn?, cap, start, alert })
}

//--- Exporters

fn export(section: &mut Section<'_, '_>) -> Option<Export> {
    let word = |kind: &ExportKind| ExportKind::WORDS.iter().find(|(_, known)| known == kind).map_or("", |(word, _)| *word);
    let kind = section.required("kind", choice(ExportKind::WORDS), |kind| show::string(word(kind)));
    let url = section.optional("url", |given| Ok(Url::new(&string(given)?)?), |url| show::string(&url.to_string()));
    let listen = section.optional(
        "listen",
        |given| {
            let text = string(given)?;
            let wrong = || format!("'{}' is no address; as \"127.0.0.1:9187\" or \"[::1]:9187\"", super::units::clip(&text));
            SocketAddr::from_str(&text).map_err(|_| wrong().into())
        },
        |address| show::string(&address.to_string()),
    );
    let mut streams: Vec<Stream> = Vec::new();
    section.ask("streams", &mut streams, strings(stream), |streams| {
        show::strings(&streams.iter().map(|stream| stream.name()).collect::<Vec<_>>())
    });
    let mut interval = Export::INTERVAL;
    section.ask("interval", &mut interval, given::duration(Duration::from_secs(1)..=Duration::from_secs(86_400)), |interval| {
        show::string(&show_duration(*interval))
    });
    let mut batch = u64::from(Export::BATCH);
    section.ask("batch", &mut batch, whole(1..=1_000_000), u64::to_string);
    let user = section.optional("user", string, |user| show::string(user));
    let token_file = section.optional("token_file", path, |path| show::path(path));
    let ca = section.optional("ca", path, |path| show::path(path));
    let cert = section.optional("cert", path, |path| show::path(path));
    let key = section.optional("key", path, |path| show::path(path));
    if section.says("cert") != section.says("key") {
        section.wrong("cert and key go together".to_owned());
    }
    let mut tags = BTreeMap::new();
    section.section("tags", |section| {
        tags = section.each(|name, given| Ok((name.to_owned(), string(given)?)), |tag| show::string(tag));
    });

    let (said_url, said_listen) = (section.says("url"), section.says("listen"));
    let target = match kind? {
        ExportKind::Prometheus => {
            if !said_listen || said_url {
                section.wrong("prometheus needs 'listen' (it asks), and no 'url'".to_owned());
            }
            Target::Listen(listen?)
        }
        kind => {
            if !said_url || said_listen {
                section.wrong(format!("{} needs 'url', and no 'listen'", word(&kind)));
            }
            Target::Url(url?)
        }
    };
    let batch = u32::try_from(batch).unwrap_or(Export::BATCH);
    Some(Export { kind: kind?, target, streams, interval, batch, tags, user, token_file, ca, cert, key })
}

fn stream(word: &str) -> Result<Stream, String> {
    Stream::from_str(word).map_err(|error| format!("{error}{}", meant(word, Stream::ALL.iter().map(|stream| stream.name()))))
}
