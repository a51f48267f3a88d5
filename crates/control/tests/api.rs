//! The API as a client meets it: what is there is described, what is refused is said in one shape.
mod support;

use axum::http::Method;
use serde_json::{Value, json};
use support::Api;

#[tokio::test]
async fn every_route_is_in_the_document_and_nothing_else_is() {
    let api = Api::start();
    let document = api.get("/openapi.json").await.body;
    assert_eq!(document, raddle_control::api::openapi());
    let methods = [Method::GET, Method::POST, Method::PUT, Method::PATCH, Method::DELETE];
    for (path, item) in document["paths"].as_object().expect("paths") {
        if path == "/v1/watch" {
            continue;
        }
        let real = path.replace("{kind}", "Route").replace("{number}", "1");
        let real = real.replace(['{', '}'], "");
        for method in &methods {
            let declared = !item[method.as_str().to_ascii_lowercase()].is_null();
            let answer = api.ask(method.clone(), &real, &[], "").await;
            assert_eq!(answer.status != 405, declared, "{method} {path}: {}", answer.status);
            let nowhere =
                answer.body["error"]["message"].as_str().is_some_and(|m| m.contains("see /openapi.json"));
            assert!(!nowhere || !declared, "{method} {path} is described and not served");
        }
    }
    assert_eq!(api.get("/v1/nothing").await.status, 404);
}

#[tokio::test]
async fn the_document_stands_on_its_own_feet() {
    let document = raddle_control::api::openapi();
    let text = document.to_string();
    let schemas = document["components"]["schemas"].as_object().expect("schemas");
    for part in text.split("#/components/schemas/").skip(1) {
        let name = part.split('"').next().unwrap_or("");
        assert!(schemas.contains_key(name), "{name} is referred to and not there");
    }
    let mut ids = Vec::new();
    for item in document["paths"].as_object().expect("paths").values() {
        for operation in item.as_object().expect("operations").values() {
            ids.push(operation["operationId"].as_str().expect("an id").to_owned());
            assert!(operation["summary"].as_str().is_some_and(|s| s.ends_with('.')), "{operation}");
        }
    }
    let count = ids.len();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), count, "operation ids are unique");
}

#[tokio::test]
async fn refusals_have_one_shape_and_say_what_would_be_right() {
    let api = Api::start();
    for (path, status, part) in [
        ("/v1/services?limt=3", 400, "limt is no parameter of this operation"),
        ("/v1/services?limit=0", 400, "1 to 1000"),
        ("/v1/services/nobody", 404, "nobody publishes"),
        ("/v1/rules/Rout/a", 404, "no kind of rule"),
        ("/v1/nothing", 404, "/openapi.json"),
        ("/v1/services/%ff", 400, "UTF-8"),
    ] {
        let answer = api.get(path).await;
        assert_eq!(answer.status, status, "{path}: {}", answer.body);
        let error = &answer.body["error"];
        assert!(error["message"].as_str().is_some_and(|m| m.contains(part)), "{path}: {error}");
        assert!(error["code"].is_string() && error["mistakes"].is_array(), "{path}: {error}");
    }
    let put = api.ask(Method::PUT, "/v1/services", &[], "").await;
    assert_eq!(put.status, 405);
    assert!(put.header("allow").contains("GET"), "{:?}", put.headers);
    assert_eq!(put.body["error"]["code"], "methodNotAllowed");
    let body = api.ask(Method::GET, "/v1/services", &[], "x").await;
    assert_eq!(body.status, 400, "{}", body.body);
}

#[tokio::test]
async fn services_and_apps_are_listed_page_by_page() {
    let api = Api::start();
    api.publish("order", 3, "com.shop.Order:1.0", 8080);
    api.publish("user", 2, "com.shop.User:1.0", 8081);
    let page = api.get("/v1/services?limit=1").await.body;
    assert_eq!(
        (&page["items"][0]["name"], &page["next"]),
        (&json!("com.shop.Order:1.0"), &json!("com.shop.Order:1.0"))
    );
    let rest = api.get("/v1/services?limit=5&after=com.shop.Order:1.0").await.body;
    assert_eq!((&rest["items"][0]["name"], &rest["next"]), (&json!("com.shop.User:1.0"), &Value::Null));
    let one = api.get("/v1/services/com.shop.Order:1.0").await.body;
    assert_eq!(one["endpoints"].as_array().map(Vec::len), Some(3));
    let app = api.get("/v1/apps/order").await.body;
    assert_eq!((&app["instances"], &app["services"]), (&json!(3), &json!(["com.shop.Order:1.0"])));
    let mut seen = Vec::new();
    let mut path = "/v1/instances?limit=2".to_owned();
    loop {
        let page = api.get(&path).await.body;
        seen.extend(page["items"].as_array().expect("items").iter().map(|i| i["id"].to_string()));
        match page["next"].as_str() {
            Some(next) => path = format!("/v1/instances?limit=2&after={}", next.replace('/', "%2F")),
            None => break,
        }
    }
    assert_eq!(seen.len(), 5, "{seen:?}");
    seen.dedup();
    assert_eq!(seen.len(), 5);
}

#[tokio::test]
async fn events_are_listed_newest_first_and_watched_with_ids_to_go_on_from() {
    let api = Api::start();
    let mut watch = api.watch("/v1/watch?kinds=events", None).await;
    let hello = watch.next_event().await;
    assert_eq!(hello.name, "hello");
    api.events.info("rulePut", "Route/a", "first");
    api.events.warning("rulePut", "Route/b", "second");
    let first = watch.until(|e| e.data["event"]["message"] == "first").await;
    assert_eq!((first.name.as_str(), &first.data["event"]["severity"]), ("events", &json!("info")));
    watch.until(|e| e.data["event"]["message"] == "second").await;
    let listed = api.get("/v1/events").await.body;
    assert_eq!(listed["items"][0]["message"], "second");
    assert_eq!(api.get("/v1/events?severity=warning").await.body["items"].as_array().map(Vec::len), Some(1));
    // Cut, and back: what came meanwhile is told, nothing twice.
    let mut again = api.watch("/v1/watch?kinds=events", Some(&hello.id)).await;
    let replayed = again.until(|e| e.name == "events").await;
    assert_eq!(replayed.data["event"]["message"], "first");
    let mut lost = api.watch("/v1/watch?kinds=events", Some("99999999")).await;
    assert_eq!(lost.next_event().await.name, "reset");
    assert_eq!(api.ask(Method::GET, "/v1/watch", &[("last-event-id", "x")], "").await.status, 400);
}
