//! HTTP/1.1 messages that two readers could take for different ones, and what the sidecar makes of them.
//!
//! Each request of the corpus is either refused, with its connection closed and nothing passed on, or passed
//! on in canonical form: the test compares bytes at a server behind that takes nothing else. Responses likewise.
//! Everything runs with an HTTP/1.1 and an HTTP/2 server behind.
mod corpus;
mod desync;
mod page;
mod requests;
mod responses;
mod sides;
mod translated;

#[test]
fn no_request_of_the_corpus_gets_through_as_two() {
    requests::run_http1();
}

#[test]
fn no_request_of_the_corpus_gets_into_http2_as_another() {
    requests::run_http2();
}

#[test]
fn no_request_of_the_corpus_gets_through_when_it_comes_byte_by_byte() {
    requests::run_slowly();
}

#[test]
fn no_response_of_the_corpus_gets_through_as_two() {
    responses::run_http1();
}

#[test]
fn no_response_of_the_corpus_gets_into_http2_as_another() {
    responses::run_http2();
}

#[test]
fn the_page_lists_the_corpus() {
    page::check();
}
