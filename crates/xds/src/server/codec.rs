//! The codec of a stream: requests are decoded, responses are written from bytes that exist already.
use super::response::Response;
use bytes::Buf;
use prost::Message;
use std::marker::PhantomData;
use tonic::Status;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};

/// Decodes `R`.
#[derive(Debug)]
pub(super) struct XdsCodec<R>(PhantomData<R>);

impl<R> Default for XdsCodec<R> {
    fn default() -> XdsCodec<R> {
        XdsCodec(PhantomData)
    }
}

impl<R: Message + Default + Send + 'static> Codec for XdsCodec<R> {
    type Encode = Response;
    type Decode = R;
    type Encoder = Write;
    type Decoder = Read<R>;

    fn encoder(&mut self) -> Write {
        Write
    }

    fn decoder(&mut self) -> Read<R> {
        Read(PhantomData)
    }
}

#[derive(Debug)]
pub(super) struct Write;

impl Encoder for Write {
    type Item = Response;
    type Error = Status;

    fn encode(&mut self, item: Response, dst: &mut EncodeBuf<'_>) -> Result<(), Status> {
        dst.reserve(item.encoded_len());
        item.encode(dst);
        Ok(())
    }
}

#[derive(Debug)]
pub(super) struct Read<R>(PhantomData<R>);

impl<R: Message + Default> Decoder for Read<R> {
    type Item = R;
    type Error = Status;

    fn decode(&mut self, src: &mut DecodeBuf<'_>) -> Result<Option<R>, Status> {
        let read = R::decode(&mut *src);
        // What is left of a message that cannot be read is not the next one.
        src.advance(src.remaining());
        read.map(Some).map_err(|e| Status::invalid_argument(format!("a request cannot be read: {e}")))
    }
}
