//! The whole control plane in one process: what is published by gRPC is served by xDS.
use envoy_types::pb::envoy::config::core::v3::Node as XdsNode;
use envoy_types::pb::envoy::config::endpoint::v3::ClusterLoadAssignment;
use envoy_types::pb::envoy::service::discovery::v3::DeltaDiscoveryRequest;
use envoy_types::pb::envoy::service::discovery::v3::aggregated_discovery_service_client::AggregatedDiscoveryServiceClient;
use prost::Message;
use raddle_control::plane::{ControlPlane, Keep, Options, Running, StartError};
use raddle_xds::proto::registry_client::RegistryClient;
use raddle_xds::proto::{Instance, Node, PublishRequest, Service};
use raddle_xds::types::Kind;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

const PATIENCE: Duration = Duration::from_secs(20);

fn options() -> Options {
    let any = Some(SocketAddr::from(([127, 0, 0, 1], 0)));
    Options { store: Keep::Memory, grpc: any, tls: None, rest: any, no_auth: true, ..Options::default() }
}

async fn start() -> (Running, String) {
    let running = ControlPlane::start(options()).await.expect("it starts");
    let target = format!("http://{}", running.addresses().grpc.expect("gRPC"));
    (running, target)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_published_is_served_and_its_changes_are_pushed() {
    let (running, target) = start().await;
    let (subscribe, requests) = mpsc::channel(8);
    let node = XdsNode {
        id: "caller-1".into(),
        cluster: "caller".into(),
        user_agent_name: "raddle".into(),
        ..XdsNode::default()
    };
    let request = DeltaDiscoveryRequest {
        node: Some(node),
        type_url: Kind::Endpoints.type_url().into(),
        resource_names_subscribe: vec!["shop.Cart:1.0".into()],
        ..DeltaDiscoveryRequest::default()
    };
    subscribe.send(request).await.expect("open");
    let mut ads = AggregatedDiscoveryServiceClient::connect(target.clone()).await.expect("connected");
    let mut told =
        ads.delta_aggregated_resources(ReceiverStream::new(requests)).await.expect("a stream").into_inner();

    let (publish, publications) = mpsc::channel(8);
    let mut registry = RegistryClient::connect(target).await.expect("connected");
    let _answers = registry.publish(ReceiverStream::new(publications)).await.expect("a stream");
    for weight in [100, 50] {
        let service = Service {
            name: "shop.Cart:1.0".into(),
            protocol: "bolt".into(),
            port: 12200,
            ..Service::default()
        };
        let instance = Instance {
            address: "10.0.0.1".into(),
            weight,
            tls: false,
            tls_required: false,
            services: vec![service],
        };
        let node = Node { id: "shop-1".into(), app: "shop".into(), ..Node::default() };
        let request = PublishRequest { node: Some(node), instance: Some(instance), sequence: 1 };
        publish.send(request).await.expect("open");
        let seen = async {
            loop {
                let response = told.message().await.expect("no error").expect("open");
                let ack = DeltaDiscoveryRequest {
                    type_url: response.type_url,
                    response_nonce: response.nonce,
                    ..DeltaDiscoveryRequest::default()
                };
                subscribe.send(ack).await.expect("open");
                for any in response.resources.into_iter().filter_map(|r| r.resource) {
                    let assignment = ClusterLoadAssignment::decode(&*any.value).expect("endpoints");
                    let all = assignment.endpoints.iter().flat_map(|l| &l.lb_endpoints);
                    let weights: Vec<u32> =
                        all.filter_map(|e| e.load_balancing_weight.as_ref().map(|w| w.value)).collect();
                    if weights == [weight] {
                        return;
                    }
                }
            }
        };
        tokio::time::timeout(PATIENCE, seen).await.expect("pushed in time");
    }
    let text = raddle_control::metrics::render(&running.parts);
    assert!(text.contains("raddle_control_xds_streams 1\n"), "{text}");
    assert!(text.contains("raddle_control_instances{state=\"live\"} 1\n"), "{text}");
    tokio::time::timeout(PATIENCE, running.end()).await.expect("it ends");
}

#[tokio::test]
async fn a_taken_port_is_named_with_its_flag() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("bound");
    let Err(error) = ControlPlane::start(Options { grpc: Some(address), ..options() }).await else {
        panic!("it started on a taken port");
    };
    let says = error.to_string();
    assert!(
        says.contains(&format!("port {} is taken", address.port())) && says.contains("--grpc-listen"),
        "{says}"
    );
}

#[tokio::test]
async fn plaintext_stays_on_loopback_unless_told_otherwise() {
    let everywhere = Some(SocketAddr::from(([0, 0, 0, 0], 0)));
    let refused = ControlPlane::start(Options { grpc: everywhere, ..options() }).await;
    assert!(matches!(refused, Err(StartError::Plaintext("gRPC", _))));
    let rest = Options { rest: everywhere, no_auth: false, ..options() };
    let refused = ControlPlane::start(rest.clone()).await;
    assert!(matches!(refused, Err(StartError::Plaintext("REST", _))));
    assert!(ControlPlane::start(Options { insecure_listen: true, ..rest }).await.is_ok());
    let allowed = Options { grpc: everywhere, insecure_listen: true, ..options() };
    assert!(ControlPlane::start(allowed).await.is_ok());
}

#[tokio::test]
async fn services_of_files_are_there_without_being_published() {
    let text = "\
apiVersion: raddle.io/v1
kind: Service
metadata: {name: legacy.Stock:1.0}
spec:
  app: legacy
  protocol: bolt
  endpoints: [{address: 10.9.0.1:12200}, {address: 10.9.0.2:12300}]
";
    let source = raddle_model::Source { name: "legacy.yaml".into(), text: text.into() };
    let running =
        ControlPlane::start(Options { resources: vec![source], ..options() }).await.expect("it starts");
    let directory = running.parts.registry.directory().borrow().clone();
    let ports: Vec<u16> = directory.services["legacy.Stock:1.0"].endpoints.iter().map(|e| e.port).collect();
    assert_eq!(ports, [12200, 12300]);
    let wrong = raddle_model::Source { name: "wrong.yaml".into(), text: "kind: Nothing\n".into() };
    let refused = ControlPlane::start(Options { resources: vec![wrong], ..options() }).await;
    assert!(matches!(refused, Err(StartError::Resources(_))));
}
