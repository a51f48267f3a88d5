fn main() {
    let paths = std::env::args().skip(1).map(Into::into).collect();
    let o = raddle_proxy::Options { paths, log_level: "debug".into(), ..Default::default() };
    std::process::exit(raddle_proxy::Sidecar::run(o));
}
