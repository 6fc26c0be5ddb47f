//! The recorder's own capabilities: `capabilities(7)`.

/// A capability psmon has a use for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Capability {
    /// Reads what only the superuser may, log directories of others too.
    DacReadSearch,
    /// Kernel event sockets with large buffers, exit accounting.
    NetAdmin,
    /// Facts of processes of other users.
    SysPtrace,
    /// Sockets of other network namespaces.
    SysAdmin,
    /// Real-time priority for the threads that must not be late.
    SysNice,
}

impl Capability {
    /// Its name as capabilities(7) has it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::DacReadSearch => "CAP_DAC_READ_SEARCH",
            Self::NetAdmin => "CAP_NET_ADMIN",
            Self::SysPtrace => "CAP_SYS_PTRACE",
            Self::SysAdmin => "CAP_SYS_ADMIN",
            Self::SysNice => "CAP_SYS_NICE",
        }
    }

    /// Its bit, `include/uapi/linux/capability.h`.
    const fn bit(self) -> u32 {
        match self {
            Self::DacReadSearch => 2,
            Self::NetAdmin => 12,
            Self::SysPtrace => 19,
            Self::SysAdmin => 21,
            Self::SysNice => 23,
        }
    }

    /// Whether a set, as `CapEff` of `/proc/PID/status` writes it, holds it; `None` for what is no set.
    #[must_use]
    pub fn is_in(self, set: &[u8]) -> Option<bool> {
        let set = u64::from_str_radix(std::str::from_utf8(set).ok()?, 16).ok()?;
        Some(set >> self.bit() & 1 == 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_of_a_set() {
        assert_eq!(Capability::NetAdmin.is_in(b"0000000000001000"), Some(true));
        assert_eq!(Capability::SysPtrace.is_in(b"0000000000001000"), Some(false));
        assert_eq!(Capability::SysPtrace.is_in(b"zz"), None);
    }
}
