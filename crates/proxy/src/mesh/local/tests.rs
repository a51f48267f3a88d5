use super::*;
use crate::mesh::{AppInfo, Identity, Lookup, MeshError};
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::sync::Mutex;
use tokio::sync::watch;

#[derive(Default)]
struct Noted {
    said: Mutex<Vec<String>>,
    outbound: Option<SocketAddr>,
}

impl Noted {
    fn note(&self, what: String) {
        self.said.lock().expect("no test panics while it holds it").push(what);
    }
    fn said(&self) -> Vec<String> {
        self.said.lock().expect("no test panics while it holds it").clone()
    }
}

impl MeshHandle for Noted {
    fn configure(&self, app: AppInfo) {
        self.note(format!("app {:?}", app.app));
    }
    fn identity(&self) -> Identity {
        Identity::default()
    }
    fn publish(&self, s: Published) -> Result<(), MeshError> {
        let protocol = s.protocol.map_or("", Protocol::name);
        self.note(format!("publish {} {protocol} {} {:?}", s.name, s.port, s.metadata));
        Ok(())
    }
    fn unpublish(&self, name: &str) -> bool {
        self.note(format!("unpublish {name}"));
        true
    }
    fn acknowledged(&self) -> bool {
        true
    }
    fn published(&self) -> Vec<Published> {
        Vec::new()
    }
    fn subscribe(&self, name: &str) -> Result<watch::Receiver<Lookup>, MeshError> {
        self.note(format!("subscribe {name}"));
        Ok(watch::channel(Lookup::Unknown).1)
    }
    fn unsubscribe(&self, name: &str) -> bool {
        self.note(format!("unsubscribe {name}"));
        true
    }
    fn outbound(&self, _: Option<Protocol>, _: u16) -> Option<SocketAddr> {
        self.outbound
    }
    fn inbound(&self, app: Option<u16>) -> Option<u16> {
        match app {
            Some(1) => None,
            Some(app) => Some(app + 1),
            None => Some(15006),
        }
    }
}

fn ask(hub: &Noted, path: &str, body: &Value) -> Value {
    let answer = answer(hub, "POST", path, body.to_string().as_bytes());
    assert_eq!(answer.status, 200, "clients take every other status for no mesh");
    serde_json::from_str(&answer.body).expect("JSON")
}

#[test]
fn what_a_sofa_provider_says_becomes_a_publication() {
    let hub = Noted::default();
    assert_eq!(ask(&hub, "/configs/application", &json!({"appName": "shop"})), json!({"success": true}));
    let publish = json!({
        "serviceName": "com.shop.Orders:1.0", "protocolType": "bolt", "onlyPublishInCloud": false,
        "providerMetaInfo": {"appName": "shop", "protocol": "bolt", "serializeType": "hessian2", "version": "4.0",
                             "properties": {"x": "y"}}
    });
    assert_eq!(ask(&hub, "/services/publish", &publish), json!({"success": true}));
    ask(&hub, "/services/unpublish", &json!({"serviceName": "com.shop.Orders:1.0", "protocolType": "bolt"}));
    let said = hub.said();
    assert_eq!(said[0], "app Some(\"shop\")");
    let metadata = r#"{"_SERIALIZETYPE": "hessian2", "v": "4.0", "x": "y"}"#;
    assert_eq!(said[1], format!("publish com.shop.Orders:1.0 bolt 15006 {metadata}"));
    assert_eq!(said[2], "unpublish com.shop.Orders:1.0");
}

#[test]
fn a_sofa_consumer_is_sent_to_the_sidecar() {
    let hub = Noted { outbound: Some(([127, 0, 0, 1], 12220).into()), ..Noted::default() };
    let said = ask(&hub, "/services/subscribe", &json!({"serviceName": "a.B:1.0", "protocolType": "bolt"}));
    assert_eq!(said["success"], true);
    assert_eq!(said["datas"], json!(["127.0.0.1:12220?_SERIALIZETYPE=hessian2&p=1&v=4.0"]));
}

#[test]
fn a_refusal_says_what_is_wrong_and_what_would_be_right() {
    let hub = Noted::default();
    let said = ask(&hub, "/services/subscribe", &json!({"serviceName": "a.B:1.0"}));
    assert_eq!(said["success"], false);
    assert!(said["errorMessage"].as_str().expect("text").contains("12220"), "{said}");
    let said = ask(&hub, "/services/publish", &json!({"serviceName": "a b", "protocolType": "bolt"}));
    assert!(said["errorMessage"].as_str().expect("text").contains("serviceName"), "{said}");
    assert_eq!(answer(&hub, "POST", "/services/publish", b"{").status, 200);
    assert_eq!(answer(&hub, "GET", "/services/publish", b"").status, 405);
    assert_eq!(answer(&hub, "POST", "/nothing", b"").status, 404);
    let said = ask(&hub, "/pub", &json!({"service": {"interface": "a.B", "port": 1}}));
    assert!(said["err_msg"].as_str().expect("text").contains("forwards to port 1"), "{said}");
    assert!(hub.said().is_empty(), "nothing was published");
}

#[test]
fn what_a_dubbo_app_says_to_mosn_it_can_say_here() {
    let hub = Noted::default();
    let registry = json!({"type": "zookeeper", "addr": "127.0.0.1:2181"});
    let service = json!({"interface": "com.shop.Orders", "methods": ["get", "put"], "port": "20880", "group": "blue",
                         "version": "1.0"});
    let said = ask(&hub, "/pub", &json!({"registry": registry, "service": service}));
    assert_eq!(said, json!({"err_no": 0, "err_msg": "publish success"}));
    ask(
        &hub,
        "/sub",
        &json!({"registry": registry, "service": {"interface": "com.shop.Stock", "methods": []}}),
    );
    let said = hub.said();
    assert_eq!(said[0], r#"publish com.shop.Orders:1.0:blue dubbo 20881 {"methods": "get,put"}"#);
    assert_eq!(said[1], "subscribe com.shop.Stock");
    let bad = ask(&hub, "/pub", &json!({"service": {"interface": "", "methods": []}}));
    assert_eq!(bad["err_no"], 1);
}
