//! Content-Formats (RFC 7252 section 12.3, registry "CoAP Content-Formats") and the content types that MQTT names
//! the same things by.

/// `application/concise-problem-details+cbor` (RFC 9290)
pub(crate) const PROBLEM_DETAILS: u16 = 257;

/// `application/link-format` (RFC 6690)
pub(crate) const LINK_FORMAT: u16 = 40;

/// In the order of their numbers.
const FORMATS: [(u16, &str); 59] = [
    (0, "text/plain;charset=utf-8"),
    (16, "application/cose;cose-type=\"cose-encrypt0\""),
    (17, "application/cose;cose-type=\"cose-mac0\""),
    (18, "application/cose;cose-type=\"cose-sign1\""),
    (19, "application/ace+cbor"),
    (21, "image/gif"),
    (22, "image/jpeg"),
    (23, "image/png"),
    (40, "application/link-format"),
    (41, "application/xml"),
    (42, "application/octet-stream"),
    (47, "application/exi"),
    (50, "application/json"),
    (51, "application/json-patch+json"),
    (52, "application/merge-patch+json"),
    (60, "application/cbor"),
    (61, "application/cwt"),
    (62, "application/multipart-core"),
    (63, "application/cbor-seq"),
    (96, "application/cose;cose-type=\"cose-encrypt\""),
    (97, "application/cose;cose-type=\"cose-mac\""),
    (98, "application/cose;cose-type=\"cose-sign\""),
    (101, "application/cose-key"),
    (102, "application/cose-key-set"),
    (110, "application/senml+json"),
    (111, "application/sensml+json"),
    (112, "application/senml+cbor"),
    (113, "application/sensml+cbor"),
    (114, "application/senml-exi"),
    (115, "application/sensml-exi"),
    (140, "application/yang-data+cbor;id=sid"),
    (256, "application/coap-group+json"),
    (257, "application/concise-problem-details+cbor"),
    (258, "application/swid+cbor"),
    (271, "application/dots+cbor"),
    (
        280,
        "application/pkcs7-mime;smime-type=server-generated-key",
    ),
    (281, "application/pkcs7-mime;smime-type=certs-only"),
    (284, "application/pkcs8"),
    (285, "application/csrattrs"),
    (286, "application/pkcs10"),
    (287, "application/pkix-cert"),
    (290, "application/aif+cbor"),
    (291, "application/aif+json"),
    (310, "application/senml+xml"),
    (311, "application/sensml+xml"),
    (320, "application/senml-etch+json"),
    (322, "application/senml-etch+cbor"),
    (340, "application/yang-data+cbor"),
    (341, "application/yang-data+cbor;id=name"),
    (432, "application/td+json"),
    (836, "application/voucher+cose"),
    (10_000, "application/vnd.ocf+cbor"),
    (10_001, "application/oscore"),
    (10_002, "application/javascript"),
    (11_542, "application/vnd.oma.lwm2m+tlv"),
    (11_543, "application/vnd.oma.lwm2m+json"),
    (11_544, "application/vnd.oma.lwm2m+cbor"),
    (20_000, "text/css"),
    (30_000, "image/svg+xml"),
];

/// The content type of a Content-Format; `None` for one that this version does not know.
#[must_use]
pub fn content_type(format: u16) -> Option<&'static str> {
    let at = FORMATS.binary_search_by_key(&format, |(number, _)| *number);
    at.ok().map(|at| FORMATS[at].1)
}

/// The Content-Format of a content type, whatever its case and its white space; `None` when it has none.
#[must_use]
pub fn content_format(content_type: &str) -> Option<u16> {
    // What MQTT clients write for it.
    if is_same(content_type, "text/plain") {
        return Some(0);
    }
    let found = FORMATS.iter().find(|(_, name)| is_same(content_type, name));
    found.map(|(number, _)| *number)
}

/// Media types are compared without case (RFC 9110 section 8.3.1).
fn is_same(said: &str, name: &str) -> bool {
    let said = said.bytes().filter(|byte| !byte.is_ascii_whitespace());
    let said = said.map(|byte| byte.to_ascii_lowercase());
    said.eq(name.bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_format_is_found_both_ways() {
        assert!(FORMATS.is_sorted_by_key(|(number, _)| *number));
        for (number, name) in FORMATS {
            assert_eq!(content_type(number), Some(name));
            assert_eq!(content_format(name), Some(number));
        }
        assert_eq!(content_format("Text/Plain; charset=UTF-8"), Some(0));
        assert_eq!(content_format("text/plain"), Some(0));
        assert_eq!(
            (content_type(20), content_format("text/html")),
            (None, None)
        );
    }
}
