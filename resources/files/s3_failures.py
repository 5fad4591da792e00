"""The meaning of boto3's errors: whether they are transient, and which setting to change."""

from __future__ import annotations

from typing import TYPE_CHECKING

from resources.failures import PermanentFailure, TransientFailure

if TYPE_CHECKING:
    from botocore import exceptions

TRANSIENT_CODES = {
    "BadDigest",  # the bytes were damaged on the way
    "IncompleteBody",
    "InternalError",
    "InvalidPart",  # the service has lost a part of an upload
    "NoSuchUpload",
    "OperationAborted",
    "RequestTimeout",
    "ServiceUnavailable",
    "SlowDown",
    "Throttling",
    "ThrottlingException",
    "XAmzContentChecksumMismatch",
    "XAmzContentSHA256Mismatch",
}
NOT_IMPLEMENTED = 501

CREDENTIALS = "Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (or AWS_PROFILE) to a user of the bucket."
RIGHTS = (
    "Give its user the rights that docs/how-to/object-store.md lists, or set S3_BUCKET to a bucket that it may use."
)
LOCATION = "Create the bucket, or set S3_BUCKET, AWS_ENDPOINT_URL and AWS_DEFAULT_REGION to its location."
KEY = "Let the bucket's encryption use a key that is enabled and that the bucket's user may use."
REMEDY = {
    "AccessDenied": RIGHTS,
    "AllAccessDisabled": RIGHTS,
    "AuthorizationHeaderMalformed": LOCATION,
    "ExpiredToken": CREDENTIALS,
    "IllegalLocationConstraintException": LOCATION,
    "InvalidAccessKeyId": CREDENTIALS,
    "InvalidBucketName": LOCATION,
    "InvalidToken": CREDENTIALS,
    "NoSuchBucket": LOCATION,
    "NotImplemented": "The service cannot do this.",
    "PermanentRedirect": LOCATION,
    "RequestTimeTooSkewed": "Set the clock of this host.",
    "SignatureDoesNotMatch": CREDENTIALS,
    "TokenRefreshRequired": CREDENTIALS,
}
REFUSAL = f"{CREDENTIALS} {RIGHTS}"
"""The response to a HEAD request has no body, so it gives no reason for a refusal."""


class ObjectMissing(PermanentFailure):
    """There is no object under a key."""


def classify_failure(uri: str, error: exceptions.ClientError | exceptions.BotoCoreError) -> Exception:
    """Our failure for `error`, which occurred at `uri`."""
    from botocore import exceptions  # here, because most processes need no bucket

    if isinstance(error, exceptions.ClientError):
        return _response_failure(uri, error)
    if isinstance(error, exceptions.SSLError):
        return PermanentFailure(
            f"{uri}: no trusted connection ({error}). Set AWS_CA_BUNDLE, or correct AWS_ENDPOINT_URL."
        )
    if isinstance(error, exceptions.ParamValidationError):
        problem = str(error).splitlines()[-1].partition(":")[0]  # a regular expression follows
        return PermanentFailure(f"{uri}: {problem}. {LOCATION}")
    lost = (
        exceptions.ConnectionError,
        exceptions.HTTPClientError,
        exceptions.IncompleteReadError,
        exceptions.FlexibleChecksumError,
        exceptions.CredentialRetrievalError,  # the role's service does not respond
    )
    if isinstance(error, lost):
        return TransientFailure(f"{uri}: {error}. If this persists, check that the service runs, and AWS_ENDPOINT_URL.")
    return PermanentFailure(f"{uri}: {str(error).rstrip('.')}. {CREDENTIALS}")


def _response_failure(uri: str, error: exceptions.ClientError) -> Exception:
    """The failure for an error response of the service."""
    status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    code = error.response.get("Error", {}).get("Code", "")
    if code == "404" and error.operation_name == "HeadBucket":
        return PermanentFailure(f"{uri}: there is no such bucket. {LOCATION}")
    if code in ("404", "NoSuchKey", "NotFound"):
        return ObjectMissing(f"there is nothing at {uri}")
    if code in TRANSIENT_CODES or status == 429 or (status >= 500 and status != NOT_IMPLEMENTED):
        return TransientFailure(f"{uri}: {error}")
    message = str(error).rstrip(".")
    return PermanentFailure(f"{uri}: {message}. {KEY if code.startswith('KMS.') else REMEDY.get(code, REFUSAL)}")
