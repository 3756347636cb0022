//! Addresses that are signed: for how long one may be good.

use hyper::{StatusCode, Uri};
use s3s::{S3Error, S3ErrorCode, S3Result};

use crate::s3::text::unurl;

/// Seconds that a signed address may be good for: a week, as everywhere.
const EXPIRES_S_MAX: u64 = 7 * 24 * 3600;
const EXPIRES: &str = "X-Amz-Expires";

/// Refuses an address that is to be good for longer.
///
/// # Errors
/// `AuthorizationQueryParametersError`, as clients know it.
pub(super) fn check(uri: &Uri) -> S3Result<()> {
    let query = uri.query().unwrap_or_default();
    // As the library reads it: whatever of it is escaped.
    let seconds = query.split('&').filter_map(|pair| {
        let (name, value) = pair.split_once('=')?;
        (unurl(name)? == EXPIRES).then_some(unurl(value)?.parse::<u64>().ok()?)
    });
    match seconds.max() {
        Some(seconds) if seconds > EXPIRES_S_MAX => {
            let mut error = S3Error::new(S3ErrorCode::Custom("AuthorizationQueryParametersError".into()));
            error.set_status_code(StatusCode::BAD_REQUEST);
            error
                .set_message(format!("X-Amz-Expires must be at most {EXPIRES_S_MAX} seconds, not {seconds}"));
            Err(error)
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::check;

    #[test]
    fn an_address_is_good_for_a_week_at_most() {
        let expiring = |seconds: &str| format!("/b/k?a=b&X-Amz-Expires={seconds}&c").parse().unwrap();
        assert!(check(&expiring("604800")).is_ok() && check(&expiring("x")).is_ok());
        assert!(check(&expiring("604801")).is_err());
        assert!(check(&"/b/k?X%2DAmz-Expires=%3604801".parse().unwrap()).is_err(), "escaped");
        assert!(check(&"/b/k?X-Amz-Expires=1&X-Amz-Expires=700000".parse().unwrap()).is_err());
        assert!(check(&"/b/k".parse().unwrap()).is_ok());
    }
}
