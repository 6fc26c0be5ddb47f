//! What an interpreter runs: the script, module, jar or main class on its command line.

use crate::observer::facts::program_of;
use crate::record::cmd::Cmd;

/// The name of what runs, where an executable is one of these interpreters and its command line says what it runs. `python3`
/// is `python3.11` too. As `sh` is a link to another shell nearly everywhere, the name it was called by counts as well.
#[must_use]
pub fn script(interpreters: &[Box<[u8]>], exe: &[u8], cmd: &Cmd) -> Option<Vec<u8>> {
    let mut args = cmd.args();
    let called = program_of(args.next()?);
    let called = called.strip_prefix(b"-").unwrap_or(called);
    let is_one = |name: &[u8]| interpreters.iter().any(|interpreter| is_version_of(name, interpreter));
    let exe = program_of(exe);
    let name = [exe, called].into_iter().find(|name| is_one(name))?;
    let found = match kind(name) {
        Kind::Java => java(args),
        Kind::Python => python(args),
        Kind::Shell => shell(args),
        Kind::Other => other(args),
    };
    found.map(|script| base(script).to_vec()).filter(|script| !script.is_empty())
}

enum Kind {
    Java,
    Python,
    Shell,
    Other,
}

fn kind(name: &[u8]) -> Kind {
    const SHELLS: [&[u8]; 7] = [b"sh", b"bash", b"dash", b"ash", b"ksh", b"mksh", b"zsh"];
    if name.starts_with(b"java") {
        Kind::Java
    } else if name.starts_with(b"python") || name.starts_with(b"pypy") {
        Kind::Python
    } else if SHELLS.contains(&name) {
        Kind::Shell
    } else {
        Kind::Other
    }
}

fn is_version_of(name: &[u8], interpreter: &[u8]) -> bool {
    name.strip_prefix(interpreter).is_some_and(|rest| rest.iter().all(|byte| byte.is_ascii_digit() || *byte == b'.'))
}

fn base(path: &[u8]) -> &[u8] {
    path.rsplit(|byte| *byte == b'/').find(|part| !part.is_empty()).unwrap_or(b"")
}

/// `java -jar X.jar`, `-m module/class`, or the main class: java(1).
fn java<'a>(mut args: impl Iterator<Item = &'a [u8]>) -> Option<&'a [u8]> {
    const WITH_VALUE: [&[u8]; 10] = [
        b"-cp",
        b"-classpath",
        b"--class-path",
        b"-p",
        b"--module-path",
        b"--upgrade-module-path",
        b"--add-modules",
        b"--limit-modules",
        b"--add-opens",
        b"--add-exports",
    ];
    while let Some(arg) = args.next() {
        match arg {
            b"-jar" | b"-m" | b"--module" => return args.next(),
            arg if WITH_VALUE.contains(&arg) => drop(args.next()),
            arg if arg.starts_with(b"--module=") => return arg.get(b"--module=".len()..),
            arg if arg.starts_with(b"-") || arg.starts_with(b"@") || arg.is_empty() => {}
            class => return Some(class),
        }
    }
    None
}

/// Letters of one argument are options of their own, up to one that takes the rest or the next argument: python(1).
fn python<'a>(mut args: impl Iterator<Item = &'a [u8]>) -> Option<&'a [u8]> {
    while let Some(arg) = args.next() {
        let Some(letters) = arg.strip_prefix(b"-") else { return Some(arg) };
        if letters.is_empty() {
            return None;
        }
        if letters.starts_with(b"-") {
            match arg {
                b"--" => return args.next(),
                b"--check-hash-based-pycs" => drop(args.next()),
                _ => {}
            }
            continue;
        }
        for (at, letter) in letters.iter().enumerate() {
            let rest = letters.get(at + 1..).filter(|rest| !rest.is_empty());
            match letter {
                b'm' => return rest.or_else(|| args.next()),
                b'c' => return None,
                b'W' | b'X' | b'Q' => {
                    if rest.is_none() {
                        args.next();
                    }
                    break;
                }
                _ => {}
            }
        }
    }
    None
}

/// `-c` runs what stands there, `-s` what comes in; `-o` and `-O` take a name: bash(1), dash(1).
fn shell<'a>(mut args: impl Iterator<Item = &'a [u8]>) -> Option<&'a [u8]> {
    while let Some(arg) = args.next() {
        match arg {
            b"-" | b"--" => return args.next(),
            b"--rcfile" | b"--init-file" => drop(args.next()),
            arg if arg.starts_with(b"--") => {}
            arg if arg.starts_with(b"-") || (arg.starts_with(b"+") && arg.len() > 1) => {
                if arg.starts_with(b"-") && arg.iter().any(|letter| matches!(letter, b'c' | b's')) {
                    return None;
                }
                if arg.ends_with(b"o") || arg.ends_with(b"O") {
                    args.next();
                }
            }
            script => return Some(script),
        }
    }
    None
}

/// The first argument that is no option; code on the command line is nobody's script (perl, ruby, node and others).
fn other<'a>(mut args: impl Iterator<Item = &'a [u8]>) -> Option<&'a [u8]> {
    while let Some(arg) = args.next() {
        match arg {
            b"--" => return args.next(),
            b"-" | b"-e" | b"-E" | b"-c" | b"--eval" => return None,
            arg if arg.starts_with(b"-") || arg.is_empty() => {}
            script => return Some(script),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn name(exe: &str, args: &[&str]) -> Option<String> {
        let interpreters: Vec<Box<[u8]>> = ["python3", "java", "sh", "perl"].iter().map(|name| name.as_bytes().into()).collect();
        let cmd = Cmd::from_args(args.iter().map(|arg| arg.as_bytes()), 0);
        script(&interpreters, exe.as_bytes(), &cmd).map(|name| String::from_utf8(name).unwrap())
    }

    #[test]
    fn what_an_interpreter_runs() {
        let is = |exe: &str, args: &[&str], wanted: Option<&str>| assert_eq!(name(exe, args).as_deref(), wanted, "{exe} {args:?}");
        is("/usr/bin/python3.11", &["python3", "-u", "/opt/app/serve.py", "--port", "80"], Some("serve.py"));
        is("/usr/bin/python3.11 (deleted)", &["python3", "-Bum", "http.server"], Some("http.server"));
        is("/usr/bin/python3", &["python3", "-mvenv", "x"], Some("venv"));
        is("/usr/bin/python3", &["python3", "-W", "ignore", "-Xdev", "a.py"], Some("a.py"));
        is("/usr/bin/python3", &["python3", "-c", "import x", "y.py"], None);
        is("/usr/bin/python3", &["python3"], None);
        is("/usr/bin/python2", &["python2", "x.py"], None);
        is("/usr/bin/java", &["java", "-Xmx1g", "-cp", "/a:/b", "com.example.Main", "x"], Some("com.example.Main"));
        is("/opt/jdk/bin/java", &["java", "-jar", "/srv/X.jar", "x"], Some("X.jar"));
        is("/opt/jdk/bin/java", &["java", "-p", "mods", "-m", "a.b/a.b.Main"], Some("a.b.Main"));
        is("/usr/bin/dash", &["/bin/sh", "-e", "/etc/cron.daily/apt"], Some("apt"));
        is("/usr/bin/dash", &["sh", "-o", "errexit", "./x y.sh"], Some("x y.sh"));
        is("/usr/bin/dash", &["sh", "-ec", "sleep 2; exec x"], None);
        is("/usr/bin/dash", &["dash", "x"], None);
        is("/usr/bin/perl", &["perl", "-w", "/usr/bin/exiftool"], Some("exiftool"));
        is("/usr/bin/perl", &["perl", "-e", "print 1"], None);
        is("/usr/bin/nginx", &["nginx", "x"], None);
    }

    proptest! {
        #[test]
        fn any_arguments_are_survived(exe in "(/bin/)?(python3|java|sh|perl)", args in proptest::collection::vec("[-+a-zA-Z=/@.]{0,6}", 0..6)) {
            let args: Vec<&str> = args.iter().map(String::as_str).collect();
            let name = name(&exe, &args);
            prop_assert!(name.is_none_or(|name| !name.is_empty() && !name.contains('/')));
        }
    }
}
