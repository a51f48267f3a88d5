//! Whatever a client sends, the server neither panics nor grows.
mod checks;

use envoy_types::pb::envoy::service::discovery::v3::{DeltaDiscoveryRequest, DiscoveryRequest};
use envoy_types::pb::google::rpc::Status;
use proptest::prelude::*;
use prost::Message;

fn names() -> impl Strategy<Value = Vec<String>> {
    prop::collection::vec(prop::sample::select(vec!["a", "b", "c", "d", "e", "*", ""]), 0..4)
        .prop_map(|list| list.into_iter().map(str::to_owned).collect())
}

prop_compose! {
    fn request(delta: bool)(
        ask in names(), drop in names(), known in names(), nonce in "[a]{0,2}", refused: bool, mark in 0..8u8
    ) -> Vec<u8> {
        let error = refused.then(|| Status { code: 3, message: "a is bad".into(), details: Vec::new() });
        let bytes = if delta {
            DeltaDiscoveryRequest {
                resource_names_subscribe: ask,
                resource_names_unsubscribe: drop,
                initial_resource_versions: known.into_iter().map(|n| (n, "1".into())).collect(),
                response_nonce: nonce,
                error_detail: error,
                ..DeltaDiscoveryRequest::default()
            }.encode_to_vec()
        } else {
            DiscoveryRequest { resource_names: ask, response_nonce: nonce, error_detail: error, ..DiscoveryRequest::default() }
                .encode_to_vec()
        };
        // The length says the kind too; an unknown field pads it.
        let mut bytes = bytes;
        if mark > 0 {
            prost::encoding::bytes::encode(100, &vec![0u8; usize::from(mark)], &mut bytes);
        }
        bytes.truncate(223);
        let mut framed = vec![32 + bytes.len() as u8];
        framed.extend(bytes);
        framed
    }
}

fn stream() -> impl Strategy<Value = Vec<u8>> {
    any::<bool>().prop_flat_map(|delta| {
        let step = prop_oneof![1 => (0..32u8).prop_map(|b| vec![b]), 3 => request(delta)];
        prop::collection::vec(step, 0..40).prop_map(move |steps| {
            let mut all = vec![u8::from(delta)];
            all.extend(steps.concat());
            all
        })
    })
}

proptest! {
    #[test]
    fn no_request_breaks_the_server(data in stream()) {
        checks::requests(&data);
    }

    #[test]
    fn no_bytes_break_the_server(data in prop::collection::vec(any::<u8>(), 0..400)) {
        checks::requests(&data);
    }
}
