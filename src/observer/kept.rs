//! Files of a process that are kept open, as long as there are descriptors to spare: one that is kept is read at half the price.

use std::os::fd::OwnedFd;

use crate::source::ReadError;
use crate::source::procdir::read_at_start;

/// Reads a file from its start: the kept one, or one that `open` opens and that is kept from then on while there are files to `spare`.
///
/// # Errors
/// As [`ReadError`] says.
pub fn read(
    kept: &mut Option<OwnedFd>,
    spare: &mut usize,
    buffer: &mut [u8],
    open: impl FnOnce() -> Result<OwnedFd, ReadError>,
) -> Result<usize, ReadError> {
    if let Some(kept) = kept {
        return read_at_start(kept, buffer);
    }
    let fd = open()?;
    let length = read_at_start(&fd, buffer)?;
    if *spare > 0 {
        *spare -= 1;
        *kept = Some(fd);
    }
    Ok(length)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_kept_while_there_is_one_to_spare() {
        let open = || Ok(OwnedFd::from(std::fs::File::open("/proc/self/comm").unwrap()));
        let (mut kept, mut spare, mut buffer) = (None, 0, [0; 64]);
        assert!(read(&mut kept, &mut spare, &mut buffer, open).unwrap() > 0 && kept.is_none());
        spare = 1;
        assert!(read(&mut kept, &mut spare, &mut buffer, open).unwrap() > 0);
        assert!(kept.is_some() && spare == 0);
        let never = || Err(ReadError::Refused);
        assert!(read(&mut kept, &mut spare, &mut buffer, never).unwrap() > 0, "and read again without opening");
        assert_eq!(read(&mut None, &mut spare, &mut buffer, never), Err(ReadError::Refused));
    }
}
