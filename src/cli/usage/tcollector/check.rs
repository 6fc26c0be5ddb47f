//! What tcollector and the TSD behind it take, told by others than the code that writes it: `process_line` of tcollector.py
//! (OpenTSDB/tcollector), the limit of a line in net.opentsdb.tsd.PipelineFactory, eight tags (`--max-tags`).
//!
//! The test of the whole program includes this file too.

use std::collections::HashMap;

/// Judges a stream of lines.
#[derive(Debug, Default)]
pub struct Checker {
    /// What is wrong, a sentence for each line.
    pub wrong: Vec<String>,
    /// Points taken.
    pub points: u64,
    /// The last second of each series: its metric and tags.
    pub series: HashMap<String, u64>,
    /// Seconds in which there was a point, in the order they came.
    pub seconds: Vec<u64>,
}

impl Checker {
    /// Judges these lines, after those before.
    pub fn take(&mut self, text: &str) {
        if !text.is_empty() && !text.ends_with('\n') {
            self.wrong.push(format!("the last line has no end: {text:?}"));
        }
        for line in text.split_terminator('\n') {
            if let Err(why) = self.line(line) {
                self.wrong.push(format!("{why}: {line:?}"));
            }
        }
    }

    fn line(&mut self, line: &str) -> Result<(), String> {
        if line.len() >= 1024 {
            return Err("1024 bytes or more".to_owned());
        }
        let allowed = |word: &str| !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_./".contains(&byte));
        let mut words = line.split(' ');
        let [Some(metric), Some(second), Some(value)] = [words.next(), words.next(), words.next()] else {
            return Err("fewer than three words".to_owned());
        };
        let tags: Vec<&str> = words.collect();
        if !allowed(metric) {
            return Err("a metric of other letters".to_owned());
        }
        // More than eleven digits are milliseconds.
        if !(2..=11).contains(&second.len()) || !second.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err("no second".to_owned());
        }
        let second: u64 = second.parse().map_err(|_| "no second")?;
        let (whole, fraction) = value.split_once('.').unwrap_or((value, "0"));
        if [whole, fraction].iter().any(|digits| digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit())) {
            return Err("no number".to_owned());
        }
        if value.contains('.') != (metric == "proc.stat.ps.pcpu") {
            return Err("pcpu has a decimal, and nothing else has".to_owned());
        }
        let mut keys = Vec::new();
        for tag in &tags {
            match tag.split_once('=') {
                Some((key, value)) if allowed(key) && allowed(value) && !keys.contains(&key) => keys.push(key),
                _ => return Err("a wrong tag".to_owned()),
            }
        }
        // tcollector adds host.
        if !(1..8).contains(&keys.len()) {
            return Err("no tag, or too many".to_owned());
        }
        let before = self.series.insert(format!("{metric} {}", tags.join(" ")), second);
        if before.is_some_and(|before| before >= second) {
            return Err(format!("not younger than the one before, of {before:?}"));
        }
        if self.seconds.last() != Some(&second) {
            self.seconds.push(second);
        }
        self.points += 1;
        Ok(())
    }
}
