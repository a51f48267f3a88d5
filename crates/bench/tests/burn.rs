//! The app that costs CPU and the load of many paths, over real sockets.
use raddle_bench::mix::Surge;
use raddle_bench::{BurnOptions, MixOptions, Protocol, ServeOptions, Server, burn, mix};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

struct App {
    address: SocketAddr,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Drop for App {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.take().into_iter().for_each(|t| t.join().unwrap());
    }
}

fn app(burn: BurnOptions) -> App {
    let listen = "127.0.0.1:0".parse().unwrap();
    let opts = ServeOptions { protocol: Protocol::Http, burn: Some(burn), listen, ..ServeOptions::default() };
    let server = Server::bind(opts).unwrap();
    let (address, stop) = (server.local_addr().unwrap(), Arc::new(AtomicBool::new(false)));
    let seen = stop.clone();
    let thread = std::thread::spawn(move || server.run(&seen).unwrap());
    App { address, stop, thread: Some(thread) }
}

fn get(address: SocketAddr, path: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    stream
        .write_all(format!("GET {path} HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").as_bytes())
        .unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    text
}

#[test]
fn a_light_load_over_all_paths_is_answered_and_accounted_for() {
    let app = app(BurnOptions { scale: 0.05, ..BurnOptions::default() });
    let surge = Surge { path: 0, factor: 3.0, from: 1.0, until: 2.0 };
    let opts = MixOptions {
        target: app.address,
        rate: 200.0,
        duration: Duration::from_secs(2),
        surges: vec![surge],
        ..MixOptions::default()
    };
    let mut told = 0;
    let result = mix(&opts, |_| told += 1).unwrap();
    assert_eq!((told, result.seconds.len()), (2, 2));
    let all = result.totals(0, 2, |_| true).cell;
    assert_eq!(all.offered, all.good + all.refused + all.failed + all.late, "{all:?}");
    assert!(all.goodput() > 0.9, "{all:?} {:?}", result.statuses);
    let [calm, high] =
        [(0, 1), (1, 2)].map(|(from, until)| result.totals(from, until, |p| p == 0).cell.offered);
    assert!(high > 2 * calm, "{calm} {high}");
}

#[test]
fn the_app_tells_its_cost_and_its_load_and_knows_its_interfaces() {
    let app = app(BurnOptions { cost_header: Some("x-cost".into()), ..BurnOptions::default() });
    let (first, cpu) = (burn::menu(1.0)[0].path.clone(), burn::menu(1.0)[0].cpu);
    let reply = get(app.address, &first);
    assert!(reply.starts_with("HTTP/1.1 200") && reply.contains(&first), "{reply}");
    let cost = reply.lines().find_map(|l| l.strip_prefix("x-cost: ")).unwrap();
    assert!(Duration::from_micros(cost.parse().unwrap()) >= cpu, "{cost}");
    assert!(get(app.address, "/load").contains("\"cpu\": "));
    assert!(get(app.address, "/nothing/here").starts_with("HTTP/1.1 404"));
}

#[test]
fn what_is_too_much_for_the_queue_is_refused_and_late_callers_go_away() {
    let app = app(BurnOptions { pool: 1, queue: 2, scale: 20.0, ..BurnOptions::default() });
    let opts = MixOptions {
        target: app.address,
        rate: 200.0,
        duration: Duration::from_secs(1),
        deadline: Duration::from_millis(300),
        ..MixOptions::default()
    };
    let result = mix(&opts, |_| {}).unwrap();
    let all = result.totals(0, 1, |_| true).cell;
    assert!(all.refused > 0 && all.good < all.offered, "{all:?}");
    assert_eq!(all.offered, all.good + all.refused + all.failed + all.late, "{all:?}");
}
