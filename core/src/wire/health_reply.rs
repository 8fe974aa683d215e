//! The answer to a health check (`wire.md` §1).

use anatase_proto::health::health_check_response::ServingStatus;

use crate::error::Error;
use crate::wire::Response;
use crate::wire::reply::another;

/// What a server says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Serving {
    Yes,
    No,
    /// It does not know the service, or says something that is not known here.
    Unclear,
}

/// Answers `Health/Check`.
pub(crate) fn serving(response: Response) -> Result<Serving, Error> {
    let Response::HealthCheck(message) = response else {
        return Err(another("HealthCheck"));
    };
    Ok(match ServingStatus::try_from(message.status) {
        Ok(ServingStatus::Serving) => Serving::Yes,
        Ok(ServingStatus::NotServing) => Serving::No,
        Ok(ServingStatus::Unknown | ServingStatus::ServiceUnknown) | Err(_) => Serving::Unclear,
    })
}
