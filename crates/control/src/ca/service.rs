//! `raddle.v1.Certificates` over gRPC.
use super::{Asker, Ca, SignError};
use crate::serve::PeerCertificate;
use axum::extract::ConnectInfo;
use raddle_xds::proto::certificates_server::{Certificates, CertificatesServer};
use raddle_xds::proto::{SignRequest, SignResponse};
use std::net::SocketAddr;
use std::sync::Arc;
use tonic::{Code, Request, Response, Status};

/// Larger than any request that could be good.
const MAX_MESSAGE: usize = 64 * 1024;

/// The service; `None` of what it is asked goes into its debug output.
#[derive(Debug)]
pub struct Service(Arc<Ca>);

impl Ca {
    /// The gRPC service. Its requests must come by way of [`crate::serve`], which says who is at the other end.
    pub fn service(self: &Arc<Ca>) -> CertificatesServer<Service> {
        CertificatesServer::new(Service(self.clone())).max_decoding_message_size(MAX_MESSAGE)
    }
}

#[tonic::async_trait]
impl Certificates for Service {
    async fn sign(&self, request: Request<SignRequest>) -> Result<Response<SignResponse>, Status> {
        let asker = Asker {
            peer: request.extensions().get::<PeerCertificate>().map(|c| c.0.clone()),
            from: request.extensions().get::<ConnectInfo<SocketAddr>>().map(|c| c.0.ip()),
        };
        let signed = self.0.sign(&asker, request.get_ref()).await;
        signed.map(Response::new).map_err(|e| Status::new(code(&e), e.to_string()))
    }
}

fn code(e: &SignError) -> Code {
    match e {
        SignError::TooOften(_) => Code::ResourceExhausted,
        SignError::Invalid(_) => Code::InvalidArgument,
        SignError::NotProven(_) => Code::Unauthenticated,
        SignError::Forbidden(_) => Code::PermissionDenied,
        SignError::Unavailable(_) => Code::Unavailable,
    }
}
