"""The vendors: all that differs between them, in one place."""

from collections.abc import Mapping
from typing import Literal

from attrs import frozen

Vendor = Literal["distinct", "vantio"]


@frozen
class VendorProfile:
    """What is particular to one vendor.

    Attributes:
        name: As in errors and logs.
        base_url: Where its API is by default, without a trailing slash.
        url_argument: The argument of `DistinctClient` that replaces `base_url`.
        url_variable: The environment variable that does.
        path_prefix: What all paths begin with; one of the vendor's pages gives it as part of the base URL.
        key_argument: The argument of `DistinctClient` for the API key.
        key_variable: The environment variable for it.
        auth_header: The request header that carries the key.
        auth_scheme: What precedes the key in it.
        enveloped: Whether responses are wrapped: ``{"statusCode": 200, "message": ..., "data": ...}``.
    """

    name: Vendor
    base_url: str
    url_argument: str
    url_variable: str
    key_argument: str
    key_variable: str
    auth_header: str
    auth_scheme: str = ""
    path_prefix: str = ""
    enveloped: bool = False

    @property
    def data_path(self) -> str:
        """The JSON path of what a response is about, within its body."""
        return "$.data" if self.enveloped else "$"


# Distinct: one host on all of its pages (https://docs.distinct.so/docs/touchpoint-scanner-metrics-api). Vantio's pages
# name three (localhost:3000, api.vantio.app, vantio.app); the newest ones and all .md samples say vantio.app
# (https://docs.vantio.app/essentials/markdown; docs/explanation/vendors.md, B1).
VENDORS: Mapping[Vendor, VendorProfile] = {
    "distinct": VendorProfile(
        "distinct",
        "https://api.distinct.so",
        url_argument="base_url",
        url_variable="DISTINCT_BASE_URL",
        key_argument="api_key",
        key_variable="DISTINCT_API_KEY",
        auth_header="x-distinct-api-key",
        enveloped=True,
    ),
    "vantio": VendorProfile(
        "vantio",
        "https://vantio.app",
        url_argument="vantio_base_url",
        url_variable="VANTIO_BASE_URL",
        path_prefix="/api/v1",
        key_argument="vantio_api_key",
        key_variable="VANTIO_API_KEY",
        auth_header="Authorization",
        auth_scheme="Bearer ",
    ),
}
