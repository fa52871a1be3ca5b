"""Leads the fuzzer beyond the first door, and keeps it from waiting there."""

import itertools
import os

import schemathesis
from schemathesis import GenerationMode

DOCKERFILE = b"FROM busybox\nRUN echo hello\n"
NOBODY = "01a1fd7f-0000-7000-8000-000000000000"
ADDRESSES = itertools.count(1)
UPLOADS = {"/api/v1/builds", "/api/dockerfile-build/"}


@schemathesis.hook
def before_call(context, case, kwargs):
    be_brief(case.query or {})
    be_careful(case)
    come_from_elsewhere(case)
    allowed = case.meta is not None and case.meta.generation.mode == GenerationMode.POSITIVE
    if allowed and case.operation.method.upper() == "POST" and case.operation.path in UPLOADS:
        be_acceptable(case.body)


def be_brief(query):
    """The servers have no engine: what a reader would wait for never comes. What the service refuses is sent as it is."""
    wait = str(query.get("wait", ""))
    if wait.isascii() and wait.isdigit() and 1 <= int(wait) <= 60:
        query["wait"] = 1
    if str(query.get("follow", "")).lower() == "true":
        query["follow"] = "false"


def be_careful(case):
    """The fuzzer is the admin with the first token: what would take its own account or token away goes to others that are not there."""
    names = case.path_parameters or {}
    if case.operation.path == "/api/v1/users/{name}" and case.operation.method.upper() != "GET" and names.get("name") == "admin":
        names["name"] = "admin-of-nothing"
    if case.operation.path == "/api/v1/tokens/{id}" and names.get("id") == os.environ["FUZZ_OWN_TOKEN"]:
        names["id"] = NOBODY


def come_from_elsewhere(case):
    """It also shows wrong passwords, and an address that does is locked out: each request comes from one of its own, over TLS, as a proxy says."""
    at = next(ADDRESSES)
    case.headers = {**(case.headers or {}), "X-Forwarded-For": f"10.{at >> 16 & 255}.{at >> 8 & 255}.{at & 255}", "X-Forwarded-Proto": "https"}


def be_acceptable(body):
    """No random bytes are a Dockerfile, and few random texts an image: every second upload gets both, and its options stay as they are."""
    if isinstance(body, dict) and len(str(body)) % 2 == 0:
        body.pop("context", None)
        body["file"] = DOCKERFILE
        if "docker_repo" in body:
            body["docker_repo"] = "127.0.0.1:5000/fuzz/app"
        elif "image" in body:
            body["image"] = ["127.0.0.1:5000/fuzz/app:1"]
