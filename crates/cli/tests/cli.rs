//! The binary as a user meets it: help, exit codes, output.
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Command, Output};

fn raddle(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_raddle")).args(args).output().expect("the binary runs")
}

fn example(name: &str) -> String {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../examples");
    root.join(name).display().to_string()
}

fn code(output: &Output) -> i32 {
    output.status.code().unwrap_or(-1)
}

fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn json(output: &Output) -> serde_json::Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{e}: {}", stdout(output)))
}

#[test]
fn help_teaches_with_examples_and_names_the_exit_codes() {
    let top = raddle(&["--help"]);
    assert_eq!(code(&top), 0);
    for part in ["demo", "proxy", "check", "status", "explain", "bench", "Exit codes", "NO_COLOR"] {
        assert!(stdout(&top).contains(part), "{part}");
    }
    assert!(!stdout(&top).contains("reference  "), "hidden commands stay hidden");
    let pages: [&[&str]; 9] = [
        &["demo"],
        &["proxy"],
        &["check"],
        &["status"],
        &["explain"],
        &["explain", "flag"],
        &["bench", "serve"],
        &["bench", "load"],
        &["bench", "compare"],
    ];
    for page in pages {
        let output = raddle(&[page, &["--help"]].concat());
        assert_eq!(code(&output), 0, "{page:?}");
        assert!(stdout(&output).contains("Examples:"), "{page:?}");
    }
}

#[test]
fn a_wrong_command_line_is_exit_2() {
    let bad: [&[&str]; 8] = [
        &[],
        &["no-such-command"],
        &["check"],
        &["proxy"],
        &["explain"],
        &["explain", "flag", "XX"],
        &["bench", "load", "--duration", "10"],
        &["bench", "load", "--depth", "0"],
    ];
    for args in bad {
        let output = raddle(args);
        assert_eq!(code(&output), 2, "{args:?}: {}", stderr(&output));
    }
}

#[test]
fn the_examples_have_no_mistakes() {
    let output = raddle(&["check", &example("shop.yaml"), &example("routes.yaml"), &example("policy.yaml")]);
    assert_eq!(code(&output), 0, "{}", stdout(&output));
    assert!(stdout(&output).contains("no mistakes"));
    let directory = raddle(&["check", &example(""), "-o", "json"]);
    assert_eq!(code(&directory), 0);
    assert_eq!(json(&directory)["ok"], true);
    let count = std::fs::read_dir(example("")).unwrap().count();
    assert_eq!(json(&directory)["files"], count);
}

#[test]
fn an_http_request_is_explained_by_its_host_and_path() {
    let config = example("http.yaml");
    let ask = |more: &[&str]| {
        raddle(&[&["explain", "--config", &config, "--authority", "a.orders.example.com:80"], more].concat())
    };
    let preview = ask(&["--path", "/api/a?preview=1", "--header", "X-Team=orders"]);
    assert_eq!(code(&preview), 0, "{}", stderr(&preview));
    let text = stdout(&preview);
    assert!(text.starts_with("orders.shop, app orders"), "{text}");
    assert!(text.contains("100 % by rule orders-http/preview\n    path /api/a becomes /v2/a\n"), "{text}");

    let answered = stdout(&ask(&["--path", "/admin/x", "--method", "PUT"]));
    let wanted = "100 % by rule orders-http/maintenance: answered with 503 and 21 bytes";
    assert!(answered.contains(wanted), "{answered}");

    let unknown = raddle(&["explain", "--config", &config, "--authority", "nobody"]);
    assert_eq!(code(&unknown), 1);
    assert!(stderr(&unknown).contains("no service is called nobody"), "{}", stderr(&unknown));
    assert_eq!(code(&raddle(&["explain", "--config", &config])), 2, "neither service nor host");
}

#[test]
fn every_mistake_is_told_with_its_place_and_exit_3() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("bad.yaml");
    let text = "apiVersion: raddle.io/v1\nkind: Service\nmetadata: {name: a}\nspec:\n  app: a\n  \
                endpoints:\n  - {address: nonsense, weight: 20000, colour: red}\n";
    std::fs::write(&file, text).unwrap();
    let path = file.display().to_string();

    let human = raddle(&["check", &path]);
    assert_eq!(code(&human), 3);
    let text = stdout(&human);
    assert!(text.contains(&format!("{path}:7:")) && text.contains("3 mistakes"), "{text}");
    assert!(!text.contains('\x1b'), "no colours where there is no terminal");

    let machine = json(&raddle(&["check", "-o", "json", &path]));
    assert_eq!(machine["ok"], false);
    let mistakes = machine["mistakes"].as_array().unwrap();
    assert_eq!(mistakes.len(), 3);
    assert!(mistakes.iter().all(|m| m["line"] == 7 && m["column"].as_u64() > Some(0)), "{mistakes:?}");

    let explain = raddle(&["explain", "--service", "a", "--config", &path]);
    assert_eq!(code(&explain), 3);
    assert!(stderr(&explain).contains("bad.yaml:7:"), "{}", stderr(&explain));
}

#[test]
fn a_file_that_is_not_there_is_named() {
    let output = raddle(&["check", "/no/such/file.yaml"]);
    assert_eq!(code(&output), 1);
    assert!(stderr(&output).contains("/no/such/file.yaml"));
    let empty = tempfile::tempdir().unwrap();
    let output = raddle(&["check", &empty.path().display().to_string()]);
    assert_eq!(code(&output), 1);
    assert!(stderr(&output).contains("no .yaml, .yml or .json file"), "{}", stderr(&output));
}

#[test]
fn a_route_is_explained_from_files_alone() {
    let config = example("routes.yaml");
    let service = "com.shop.TransferService:1.0";
    let ask = ["explain", "--service", service, "--config", &config, "--header", "type=transfer"];
    let marked = raddle(&ask);
    assert_eq!(code(&marked), 0, "{}", stderr(&marked));
    let text = stdout(&marked);
    for part in ["transfer-link/marked  takes it", "127.0.0.1:12312", "group", "important", "balancer"] {
        assert!(text.contains(part), "{part} is missing in\n{text}");
    }
    let unmarked = json(&raddle(&["explain", "--service", service, "--config", &config, "-o", "json"]));
    assert_eq!(unmarked["outcomes"][0]["endpoints"][0]["group"], "default", "{unmarked}");

    let unknown = raddle(&["explain", "--service", "nobody", "--config", &config]);
    assert_eq!(code(&unknown), 1);
    assert!(stderr(&unknown).contains(service), "it lists what there is: {}", stderr(&unknown));
}

#[test]
fn a_sidecar_that_does_not_run_is_exit_4() {
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    for args in [["status", "--admin", &free].as_slice(), &["explain", "--service", "a", "--admin", &free]] {
        let output = raddle(args);
        assert_eq!(code(&output), 4, "{args:?}");
        assert!(stderr(&output).contains(&free), "{}", stderr(&output));
    }
    let output = raddle(&["bench", "load", "--target", &free]);
    assert_eq!(code(&output), 4, "{}", stderr(&output));
}

#[test]
fn flags_are_explained_one_by_one_and_all_together() {
    let one = raddle(&["explain", "flag", "uh"]);
    assert_eq!(code(&one), 0);
    assert!(stdout(&one).contains("What to look at"));
    assert_eq!(json(&raddle(&["explain", "flag", "UT", "-o", "json"]))["status"]["http"], 504);
    let all = json(&raddle(&["explain", "flag", "-o", "json"]));
    assert_eq!(all.as_array().map(Vec::len), Some(raddle_core::Reason::ALL.len()));
}

#[test]
fn completions_exist_for_every_shell() {
    for shell in ["bash", "zsh", "fish"] {
        let output = raddle(&["completions", shell]);
        assert_eq!(code(&output), 0);
        assert!(stdout(&output).contains("raddle"), "{shell}");
    }
}

#[test]
fn the_reference_and_the_version_are_printed() {
    assert!(stdout(&raddle(&["reference"])).starts_with("# Reference"));
    assert!(stdout(&raddle(&["version"])).starts_with("raddle "));
    assert_eq!(json(&raddle(&["version", "-o", "json"]))["version"], env!("CARGO_PKG_VERSION"));
}
