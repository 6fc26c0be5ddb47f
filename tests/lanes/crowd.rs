//! A crowd of processes for the lane "guest": forks itself as often as the argument says, prints "all", and waits. Static and
//! tiny, because each member costs the guest its page tables. Compiled by the lane with rustc.
use std::io::Write;

unsafe extern "C" {
    fn fork() -> i32;
    fn pause() -> i32;
}

fn main() {
    let members: u32 = std::env::args().nth(1).and_then(|n| n.parse().ok()).expect("usage: crowd NUMBER");
    for n in 1..=members {
        // SAFETY: one thread only; the child calls nothing but pause.
        match unsafe { fork() } {
            0 => loop {
                // SAFETY: no arguments, no memory.
                unsafe { pause() };
            },
            -1 => {
                println!("fork {n}: {}", std::io::Error::last_os_error());
                return;
            }
            _ => {}
        }
    }
    println!("all");
    std::io::stdout().flush().expect("stdout");
    loop {
        // SAFETY: as above.
        unsafe { pause() };
    }
}
