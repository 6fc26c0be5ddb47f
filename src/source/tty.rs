//! Names of controlling terminals from their device numbers: `proc_pid_stat(5)` field 7, `proc_tty(5)`.

/// Names devices as ps does, without `/dev/`.
#[derive(Debug, Default)]
pub struct Terminals {
    drivers: Vec<Driver>,
}

#[derive(Debug)]
struct Driver {
    prefix: String,
    major: u32,
    minors: std::ops::RangeInclusive<u32>,
}

impl Terminals {
    /// From `/proc/tty/drivers`; lines that are not understood are passed over.
    #[must_use]
    pub fn parse(drivers: &[u8]) -> Self {
        let text = String::from_utf8_lossy(drivers);
        let driver = |line: &str| {
            let mut words = line.split_whitespace();
            let (_, device, major, minors) = (words.next()?, words.next()?, words.next()?, words.next()?);
            let (first, last) = minors.split_once('-').unwrap_or((minors, minors));
            let prefix = device.strip_prefix("/dev/")?.to_owned();
            Some(Driver { prefix, major: major.parse().ok()?, minors: first.parse().ok()?..=last.parse().ok()? })
        };
        Self { drivers: text.lines().filter_map(driver).collect() }
    }

    /// The name of a device; `None` for 0, which is no terminal.
    #[must_use]
    pub fn name(&self, device: u32) -> Option<String> {
        if device == 0 {
            return None;
        }
        // The kernel's new_encode_dev: minor's low byte, major's twelve bits, minor's rest.
        let (major, minor) = (device >> 8 & 0xfff, device & 0xff | device >> 12 & 0xfff00);
        Some(match (major, minor) {
            (4, 0..=63) => format!("tty{minor}"),
            (5, 0) => "tty".to_owned(),
            (5, 1) => "console".to_owned(),
            (136..=143, _) => format!("pts/{}", (major - 136) * 256 + minor),
            _ => match self.drivers.iter().find(|driver| driver.major == major && driver.minors.contains(&minor)) {
                Some(driver) if driver.minors.start() == driver.minors.end() => driver.prefix.clone(),
                Some(driver) => format!("{}{}", driver.prefix, minor - driver.minors.start()),
                None => format!("{major}:{minor}"),
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DRIVERS: &[u8] = b"/dev/tty             /dev/tty        5       0 system:/dev/tty\nserial               /dev/ttyS       4 64-95 serial\npty_slave            /dev/pts      136 0-1048575 pty:slave\nbad line\nunknown              /dev/tty        4 1-63 console\n";

    #[test]
    fn names_are_those_of_ps() {
        let terminals = Terminals::parse(DRIVERS);
        assert_eq!(terminals.name(0), None);
        assert_eq!(terminals.name(34817).as_deref(), Some("pts/1"));
        assert_eq!(terminals.name(4 << 8 | 1).as_deref(), Some("tty1"));
        assert_eq!(terminals.name(4 << 8 | 64).as_deref(), Some("ttyS0"));
        assert_eq!(terminals.name(5 << 8 | 1).as_deref(), Some("console"));
        assert_eq!(terminals.name(200 << 8 | 3).as_deref(), Some("200:3"));
        assert_eq!(terminals.name(136 << 8 | 5 | 1 << 20).as_deref(), Some("pts/261"));
    }
}
