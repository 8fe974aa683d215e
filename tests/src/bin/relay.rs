//! A TCP relay in a process of its own: `relay HOST:PORT` listens on a free port of loopback, prints
//! it, and passes every connection on.
//!
//! What a test does to this process happens to the server behind it, as far as a client can tell:
//! `kill -STOP` freezes it (its kernel goes on accepting connections and bytes, and nobody answers),
//! `kill -CONT` thaws it, `kill -KILL` resets its connections. It ends with its standard input, so
//! that it does not outlive the test.

#![forbid(unsafe_code)]

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::thread;

fn main() -> io::Result<()> {
    let target = std::env::args().nth(1).ok_or_else(|| io::Error::other("relay HOST:PORT"))?;
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let mut out = io::stdout();
    writeln!(out, "{}", listener.local_addr()?)?;
    out.flush()?;
    thread::spawn(|| {
        // Whatever ends it, the test has gone.
        let _ = io::stdin().read(&mut [0]);
        std::process::exit(0);
    });
    for client in listener.incoming() {
        let (client, target) = (client?, target.clone());
        thread::spawn(move || pass_on(client, &target));
    }
    Ok(())
}

/// Both ways, until either side ends.
fn pass_on(client: TcpStream, target: &str) -> io::Result<()> {
    let server = TcpStream::connect(target)?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let ways = [(client.try_clone()?, server.try_clone()?), (server, client)];
    for (mut from, mut to) in ways {
        thread::spawn(move || {
            // However it ends, both sides learn of it.
            let _ = io::copy(&mut from, &mut to);
            let _ = from.shutdown(Shutdown::Both);
            let _ = to.shutdown(Shutdown::Both);
        });
    }
    Ok(())
}
