//! One simulated sidecar: a connection, an ADS stream that acknowledges, and publication streams.
use super::mesh::Shape;
use envoy_types::pb::envoy::config::core::v3::Node as XdsNode;
use envoy_types::pb::envoy::config::endpoint::v3::ClusterLoadAssignment;
use envoy_types::pb::envoy::service::discovery::v3::aggregated_discovery_service_client::AggregatedDiscoveryServiceClient;
use envoy_types::pb::envoy::service::discovery::v3::{DeltaDiscoveryRequest, DeltaDiscoveryResponse};
use futures_util::StreamExt;
use futures_util::future::try_join_all;
use futures_util::stream::select_all;
use prost::Message;
use raddle_xds::proto::registry_client::RegistryClient;
use raddle_xds::proto::{PublishRequest, Rule};
use raddle_xds::types::Kind;
use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::time::{Duration, Instant};
use tokio::sync::mpsc::{self, UnboundedSender};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;
use tonic::transport::{Channel, Endpoint};

/// What a sidecar is told to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Order {
    /// Publish an instance again, with this weight.
    Publish(usize, u32),
    /// Close the connection and open another at once.
    Drop,
    /// Close the connection.
    Die,
    /// Open it again.
    Live,
}

/// What a sidecar tells.
#[derive(Clone, Copy, Debug)]
pub(super) struct Event {
    pub(super) stream: usize,
    pub(super) at: Instant,
    pub(super) what: What,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum What {
    /// It has all it subscribed to, and all it publishes is taken.
    Whole,
    /// It has endpoints of a service with one of this weight.
    Weight(u32),
    /// It has a rule with this mark.
    Rule(u32),
    /// How many endpoints the service has that everybody subscribes to.
    Endpoints(usize),
    /// The connection failed, and is tried again.
    Failed,
}

/// Weights from here on are marks of changes.
pub(super) const MARK: u32 = 1000;

pub(super) struct Sidecar {
    pub(super) number: usize,
    pub(super) shape: Shape,
    pub(super) target: SocketAddr,
    pub(super) orders: mpsc::Receiver<Order>,
    pub(super) events: UnboundedSender<Event>,
    /// Weights that were ordered, so that a new connection publishes the same.
    pub(super) weights: HashMap<usize, u32>,
}

enum End {
    Again,
    Dead,
    Over,
}

impl Sidecar {
    /// Its whole life.
    pub(super) async fn live(mut self) {
        let mut pause = Duration::from_millis(50);
        loop {
            let began = Instant::now();
            match self.session().await {
                Ok(End::Again) => pause = Duration::from_millis(50),
                Ok(End::Over) => return,
                Ok(End::Dead) => loop {
                    match self.orders.recv().await {
                        Some(Order::Live) => break,
                        Some(_) => {}
                        None => return,
                    }
                },
                Err(_) => {
                    self.tell(What::Failed);
                    if began.elapsed() > Duration::from_secs(5) {
                        pause = Duration::from_millis(50);
                    }
                    // Spread by the sidecar's number: what jitter does, the same in each run.
                    tokio::time::sleep(pause.mul_f64(0.5 + (self.number * 7919 % 1000) as f64 / 1000.0))
                        .await;
                    pause = (pause * 2).min(Duration::from_secs(2));
                }
            }
        }
    }

    fn tell(&self, what: What) {
        // Fails only when the benchmark ends.
        let _ = self.events.send(Event { stream: self.number, at: Instant::now(), what });
    }

    /// One connection's life.
    async fn session(&mut self) -> Result<End, Status> {
        let endpoint = Endpoint::from_shared(format!("http://{}", self.target));
        let endpoint = endpoint.map_err(|e| Status::internal(e.to_string()))?;
        let channel = endpoint.connect().await.map_err(|e| Status::unavailable(e.to_string()))?;
        let mut ads = Ads::open(channel.clone(), self.number, &self.shape).await?;
        let numbers: Vec<usize> = self.shape.published(self.number).collect();
        let opened =
            numbers.iter().map(|n| publish(channel.clone(), self.shape, *n, self.weights.get(n).copied()));
        let (tells, tolds): (Vec<_>, Vec<_>) = try_join_all(opened).await?.into_iter().unzip();
        let mut answers = select_all(tolds);
        let (mut owed, mut whole) = (numbers.len(), false);
        loop {
            tokio::select! {
                told = ads.told.message() => {
                    let told = told?.ok_or_else(|| Status::unavailable("the stream ended"))?;
                    for what in ads.take(told).await? {
                        self.tell(what);
                    }
                }
                Some(answer) = answers.next() => {
                    let answer = answer?;
                    if !answer.error.is_empty() {
                        return Err(Status::internal(answer.error));
                    }
                    owed = owed.saturating_sub(1);
                }
                order = self.orders.recv() => match order {
                    Some(Order::Publish(n, weight)) => {
                        self.weights.insert(n, weight);
                        if let Some(tell) = numbers.iter().position(|m| *m == n).and_then(|at| tells.get(at)) {
                            let instance = Some(self.shape.instance(n, weight));
                            let _ = tell.send(PublishRequest { node: None, instance, sequence: 2 }).await;
                        }
                    }
                    Some(Order::Drop) => return Ok(End::Again),
                    Some(Order::Die) => return Ok(End::Dead),
                    Some(Order::Live) => {}
                    None => return Ok(End::Over),
                },
            }
            if !whole && owed == 0 && ads.missing.is_empty() {
                whole = true;
                self.tell(What::Whole);
            }
        }
    }
}

type Answers = tonic::Streaming<raddle_xds::proto::PublishResponse>;

async fn publish(
    channel: Channel,
    shape: Shape,
    n: usize,
    weight: Option<u32>,
) -> Result<(mpsc::Sender<PublishRequest>, Answers), Status> {
    let (tell, requests) = mpsc::channel(2);
    let instance = Some(shape.instance(n, weight.unwrap_or(100)));
    let first = PublishRequest { node: Some(shape.node(n)), instance, sequence: 1 };
    let _ = tell.send(first).await;
    let told = RegistryClient::new(channel).publish(ReceiverStream::new(requests)).await?.into_inner();
    Ok((tell, told))
}

/// The ADS stream.
struct Ads {
    tell: mpsc::Sender<DeltaDiscoveryRequest>,
    told: tonic::Streaming<DeltaDiscoveryResponse>,
    /// Endpoints that it subscribed to and has not got yet.
    missing: HashSet<String>,
}

impl Ads {
    async fn open(channel: Channel, number: usize, shape: &Shape) -> Result<Ads, Status> {
        let (tell, requests) = mpsc::channel(64);
        let me = shape.node(number % shape.instances);
        let node =
            XdsNode { id: me.id, cluster: me.app, user_agent_name: "raddle".into(), ..XdsNode::default() };
        let names: Vec<String> = shape.subscriptions(number).into_iter().map(Shape::service).collect();
        for kind in [Kind::Cluster, Kind::Endpoints, Kind::Rule] {
            let subscribe = if kind == Kind::Rule { vec!["*".to_owned()] } else { names.clone() };
            let request = DeltaDiscoveryRequest {
                node: (kind == Kind::Cluster).then(|| node.clone()),
                type_url: kind.type_url().into(),
                resource_names_subscribe: subscribe,
                ..DeltaDiscoveryRequest::default()
            };
            let _ = tell.send(request).await;
        }
        let mut client = AggregatedDiscoveryServiceClient::new(channel).max_decoding_message_size(64 << 20);
        let told = client.delta_aggregated_resources(ReceiverStream::new(requests)).await?.into_inner();
        Ok(Ads { tell, told, missing: names.into_iter().collect() })
    }

    /// Reads a response and acknowledges it.
    async fn take(&mut self, told: DeltaDiscoveryResponse) -> Result<Vec<What>, Status> {
        let mut seen = Vec::new();
        for resource in &told.resources {
            let Some(any) = &resource.resource else { continue };
            match Kind::of(&any.type_url) {
                Some(Kind::Endpoints) => {
                    let assignment = ClusterLoadAssignment::decode(&*any.value);
                    let assignment = assignment.map_err(|e| Status::internal(e.to_string()))?;
                    let endpoints = || assignment.endpoints.iter().flat_map(|l| &l.lb_endpoints);
                    let weights =
                        endpoints().filter_map(|e| e.load_balancing_weight.as_ref().map(|w| w.value));
                    seen.extend(weights.filter(|w| *w >= MARK).max().map(What::Weight));
                    // What a subscriber without any publisher gets first is an empty list.
                    if endpoints().next().is_some() {
                        self.missing.remove(&resource.name);
                    }
                    if resource.name == Shape::service(0) {
                        seen.push(What::Endpoints(endpoints().count()));
                    }
                }
                Some(Kind::Rule) => {
                    let rule = Rule::decode(&*any.value).map_err(|e| Status::internal(e.to_string()))?;
                    seen.extend(mark(&rule).map(What::Rule));
                }
                _ => {}
            }
        }
        let ack = DeltaDiscoveryRequest {
            type_url: told.type_url,
            response_nonce: told.nonce,
            ..Default::default()
        };
        self.tell.send(ack).await.map_err(|_| Status::unavailable("the stream ended"))?;
        Ok(seen)
    }
}

/// The mark of a rule, if it is one of this benchmark's.
fn mark(rule: &Rule) -> Option<u32> {
    let document: serde_json::Value = serde_json::from_slice(&rule.document).ok()?;
    document.pointer("/metadata/labels/mark")?.as_str()?.parse().ok()
}
