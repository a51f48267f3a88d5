//! Which tokens of others are taken.
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair, RSA_PKCS1_SHA256, RsaKeyPair,
};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as B64;
use raddle_identity::jwt::{Expected, Jwks, JwtError, MAX_TOKEN, verify};
use serde_json::{Value, json};

const NOW: i64 = 1_800_000_000;
const EXPECTED: Expected<'static> = Expected { issuer: Some("https://k8s"), audience: "raddle", now: NOW };

enum Signer {
    Ec(EcdsaKeyPair),
    Rsa(Box<RsaKeyPair>),
}

fn ec() -> Signer {
    let pkcs8 = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &SystemRandom::new()).unwrap();
    Signer::Ec(EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pkcs8.as_ref()).unwrap())
}

fn rsa() -> Signer {
    Signer::Rsa(Box::new(RsaKeyPair::generate(aws_lc_rs::rsa::KeySize::Rsa2048).unwrap()))
}

impl Signer {
    fn jwk(&self, kid: &str) -> Value {
        match self {
            Signer::Ec(k) => {
                let point = k.public_key().as_ref();
                let (x, y) = (B64.encode(&point[1..33]), B64.encode(&point[33..]));
                json!({"kty": "EC", "crv": "P-256", "kid": kid, "x": x, "y": y, "use": "sig", "alg": "ES256"})
            }
            Signer::Rsa(k) => {
                // RSAPublicKey: a sequence of two integers; of 2048 bits the first begins at byte 8.
                let der = k.public_key().as_ref();
                let (n, e) = (B64.encode(&der[9..265]), "AQAB");
                json!({"kty": "RSA", "kid": kid, "n": n, "e": e})
            }
        }
    }

    fn token(&self, header: &Value, claims: &Value) -> String {
        let message = format!("{}.{}", B64.encode(header.to_string()), B64.encode(claims.to_string()));
        let signature = match self {
            Signer::Ec(k) => k.sign(&SystemRandom::new(), message.as_bytes()).unwrap().as_ref().to_vec(),
            Signer::Rsa(k) => {
                let mut out = vec![0; k.public_modulus_len()];
                k.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), message.as_bytes(), &mut out).unwrap();
                out
            }
        };
        format!("{message}.{}", B64.encode(signature))
    }
}

fn keys(all: &[Value]) -> Jwks {
    Jwks::parse(json!({"keys": all}).to_string().as_bytes()).unwrap()
}

fn claims() -> Value {
    json!({"sub": "system:serviceaccount:shop:pay", "aud": ["raddle", "other"], "iss": "https://k8s",
           "exp": NOW + 600, "nbf": NOW - 10})
}

#[test]
fn tokens_of_both_algorithms_are_taken_when_all_of_it_fits() {
    let (ec, rsa) = (ec(), rsa());
    let set = keys(&[ec.jwk("e"), rsa.jwk("r")]);
    for (signer, alg, kid) in [(&ec, "ES256", "e"), (&rsa, "RS256", "r")] {
        for header in [json!({"alg": alg, "kid": kid, "typ": "JWT"}), json!({"alg": alg})] {
            let said = verify(&signer.token(&header, &claims()), &set, EXPECTED).expect(alg);
            assert_eq!(said.subject, "system:serviceaccount:shop:pay");
        }
    }
}

#[test]
fn a_token_does_not_choose_how_it_is_checked() {
    let (ec, rsa) = (ec(), rsa());
    let set = keys(&[rsa.jwk("r")]);
    for alg in ["none", "None", "NONE", "", "HS256", "PS256", "RS512", "ES384"] {
        let header = json!({"alg": alg, "kid": "r"});
        let forged = format!("{}.{}.", B64.encode(header.to_string()), B64.encode(claims().to_string()));
        assert_eq!(verify(&forged, &set, EXPECTED), Err(JwtError::Algorithm), "{alg}");
        assert_eq!(verify(&rsa.token(&header, &claims()), &set, EXPECTED), Err(JwtError::Algorithm), "{alg}");
    }
    // A key of its own in the header is nothing.
    let own = json!({"alg": "ES256", "jwk": ec.jwk("r"), "kid": "r"});
    assert_eq!(verify(&ec.token(&own, &claims()), &set, EXPECTED), Err(JwtError::UnknownKey));
    let critical = json!({"alg": "RS256", "crit": ["b64"], "b64": false});
    assert_eq!(verify(&rsa.token(&critical, &claims()), &set, EXPECTED), Err(JwtError::Algorithm));
}

#[test]
fn what_does_not_fit_is_refused_by_its_cause() {
    let (ours, theirs) = (ec(), ec());
    let set = keys(&[ours.jwk("1")]);
    let header = json!({"alg": "ES256", "kid": "1"});
    let with = |field: &str, value: Value| {
        let mut c = claims();
        c[field] = value;
        verify(&ours.token(&header, &c), &set, EXPECTED).map(|_| ())
    };
    assert_eq!(with("exp", json!(NOW - 31)), Err(JwtError::Expired));
    assert_eq!(with("exp", json!(NOW - 29)), Ok(()), "clocks differ a little");
    assert_eq!(with("nbf", json!(NOW + 31)), Err(JwtError::NotYet));
    assert_eq!(with("aud", json!("other")), Err(JwtError::Audience));
    assert_eq!(with("aud", json!([])), Err(JwtError::Audience));
    assert_eq!(with("aud", Value::Null), Err(JwtError::Audience));
    assert_eq!(with("iss", json!("https://evil")), Err(JwtError::Issuer));
    assert_eq!(with("exp", json!("never")), Err(JwtError::Unreadable));
    assert_eq!(verify(&theirs.token(&header, &claims()), &set, EXPECTED), Err(JwtError::Signature));
    let unknown = json!({"alg": "ES256", "kid": "2"});
    assert_eq!(verify(&ours.token(&unknown, &claims()), &set, EXPECTED), Err(JwtError::UnknownKey));
    let good = ours.token(&header, &claims());
    let other_claims = ours.token(&header, &json!({"sub": "x"}));
    let mixed = [
        good.split('.').next().unwrap(),
        other_claims.split('.').nth(1).unwrap(),
        good.rsplit('.').next().unwrap(),
    ];
    assert_eq!(verify(&mixed.join("."), &set, EXPECTED), Err(JwtError::Signature));
}

#[test]
fn what_is_no_token_is_none() {
    let set = keys(&[ec().jwk("1")]);
    for bad in ["", ".", "..", "...", "a.b.c", "e30.e30.", "\u{e9}.\u{e9}.\u{e9}", &".".repeat(MAX_TOKEN + 1)]
    {
        assert!(verify(bad, &set, EXPECTED).is_err(), "{bad:.20}");
    }
    for bad in ["", "{}", "{\"keys\":[]}", "{\"keys\":[{\"kty\":\"oct\",\"k\":\"AAAA\"}]}", "[]"] {
        assert_eq!(Jwks::parse(bad.as_bytes()).unwrap_err(), JwtError::BadKeys, "{bad}");
    }
}
