//! What is between the two ranks of a group, and can be cut: a link between two network namespaces, or a relay on this host.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread;
use std::time::Duration;

/// The network of a group.
pub(super) enum Net {
    /// Rank 1 is in a namespace of its own, behind a pair of virtual interfaces.
    Namespace { name: String, link: String, near: String },
    /// Rank 1 reaches rank 0 through a relay.
    Relay { near: String, far: String, is_cut: Arc<AtomicBool> },
}

static NEXT: AtomicU32 = AtomicU32::new(0);

impl Net {
    /// Namespaces where this process may make them, else a relay.
    pub(super) fn separate() -> Self {
        Self::namespace().unwrap_or_else(|why| {
            println!("no network namespaces here ({why}): a relay on the loopback interface instead");
            Self::loopback()
        })
    }

    pub(super) fn loopback() -> Self {
        let near = free_address("127.0.0.1");
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let far = listener.local_addr().unwrap().to_string();
        let is_cut = Arc::new(AtomicBool::new(false));
        let (to, cut) = (near.clone(), Arc::clone(&is_cut));
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                // Where rank 0 does not listen yet, rank 1 tries again.
                let Ok(other) = TcpStream::connect(&to) else { continue };
                stream.set_nodelay(true).unwrap();
                other.set_nodelay(true).unwrap();
                for (from, to) in [(&stream, &other), (&other, &stream)] {
                    let (from, to) = (from.try_clone().unwrap(), to.try_clone().unwrap());
                    let cut = Arc::clone(&cut);
                    thread::spawn(move || pump(from, to, &cut));
                }
            }
        });
        Self::Relay { near, far, is_cut }
    }

    fn namespace() -> Result<Self, String> {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let id = format!("{:x}{number:x}", std::process::id());
        let (name, link, peer) = (format!("vl{id}"), format!("vn{id}"), format!("vf{id}"));
        // Addresses for documentation and benchmarks, which no real network has.
        let subnet = std::process::id() % 16_384 * 4;
        let address = |host: u32| {
            format!("198.{}.{}.{}", 18 + (subnet >> 16 & 1), subnet >> 8 & 255, (subnet & 255) + host)
        };
        let (near, far) = (address(1), address(2));
        ip(&["netns", "add", &name])?;
        let net = Self::Namespace { name: name.clone(), link: link.clone(), near: free_port(&near) };
        ip(&["link", "add", &link, "type", "veth", "peer", "name", &peer, "netns", &name])?;
        ip(&["addr", "add", &format!("{near}/30"), "dev", &link])?;
        ip(&["link", "set", &link, "up"])?;
        ip(&["-n", &name, "addr", "add", &format!("{far}/30"), "dev", &peer])?;
        ip(&["-n", &name, "link", "set", &peer, "up"])?;
        ip(&["-n", &name, "link", "set", "lo", "up"])?;
        Ok(net)
    }

    /// Where a rank finds rank 0.
    pub(super) fn leader(&self, rank: usize) -> &str {
        match self {
            Self::Relay { far, .. } if rank > 0 => far,
            Self::Relay { near, .. } | Self::Namespace { near, .. } => near,
        }
    }

    /// What to put before the command of a rank.
    pub(super) fn prefix(&self, rank: usize) -> Vec<String> {
        match self {
            Self::Namespace { name, .. } if rank > 0 => {
                ["ip", "netns", "exec", name].map(str::to_owned).to_vec()
            }
            _ => Vec::new(),
        }
    }

    /// From now on nothing gets through, and nobody is told.
    pub(super) fn cut(&self) {
        match self {
            Self::Namespace { link, .. } => ip(&["link", "set", link, "down"]).unwrap(),
            Self::Relay { is_cut, .. } => is_cut.store(true, Ordering::Relaxed),
        }
    }

    pub(super) fn mend(&self) {
        match self {
            Self::Namespace { link, .. } => ip(&["link", "set", link, "up"]).unwrap(),
            Self::Relay { is_cut, .. } => is_cut.store(false, Ordering::Relaxed),
        }
    }
}

impl std::fmt::Debug for Net {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Namespace { .. } => "between namespaces",
            Self::Relay { .. } => "through a relay",
        })
    }
}

impl Drop for Net {
    fn drop(&mut self) {
        if let Self::Namespace { name, link, .. } = self {
            let _ = ip(&["link", "del", link]);
            let _ = ip(&["netns", "del", name]);
        }
    }
}

/// Hand on what comes while nothing is cut. What is cut stays open and silent.
fn pump(mut from: TcpStream, mut to: TcpStream, cut: &AtomicBool) {
    let mut buffer = vec![0; 1 << 16];
    while let Ok(bytes @ 1..) = from.read(&mut buffer) {
        while cut.load(Ordering::Relaxed) {
            thread::sleep(Duration::from_millis(20));
        }
        if to.write_all(&buffer[..bytes]).is_err() {
            break;
        }
    }
    let _ = to.shutdown(std::net::Shutdown::Both);
}

fn ip(args: &[&str]) -> Result<(), String> {
    let output = Command::new("ip").args(args).output().map_err(|e| format!("ip: {e}"))?;
    match output.status.success() {
        true => Ok(()),
        false => Err(format!("ip {}: {}", args.join(" "), String::from_utf8_lossy(&output.stderr).trim())),
    }
}

/// An address that nobody listens on, as far as one can know.
pub(super) fn free_address(host: &str) -> String {
    TcpListener::bind((host, 0)).unwrap().local_addr().unwrap().to_string()
}

/// The same on an address that is not there yet.
fn free_port(host: &str) -> String {
    let any = free_address("0.0.0.0");
    format!("{host}:{}", any.rsplit_once(':').unwrap().1)
}
