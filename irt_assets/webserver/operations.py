"""The mutations of a GraphQL request, and the role that they require.

The document is read like in Dagster, with fragments, aliases and variables. All its operations count, whichever of them
will run, and a mutation that this module does not name requires the highest role.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from graphql import (
    DocumentNode,
    FieldNode,
    FragmentDefinitionNode,
    FragmentSpreadNode,
    GraphQLError,
    InlineFragmentNode,
    OperationDefinitionNode,
    OperationType,
    SelectionSetNode,
    parse,
    value_from_ast_untyped,
)

from jobs.launching.launched_by import LAUNCHED_BY
from services.jwt_verifier.tokens import Role

LAUNCHING_RUNS = frozenset(
    {"launchPipelineExecution", "launchRun", "launchMultipleRuns", "launchPipelineReexecution", "launchRunReexecution"}
)
LAUNCHING_BACKFILLS = frozenset({"launchPartitionBackfill", "resumePartitionBackfill", "reexecutePartitionBackfill"})
CANCELLING = frozenset({"terminatePipelineExecution", "terminateRun", "terminateRuns", "cancelPartitionBackfill"})
MAX_TOKENS = 20_000
"""Length of the longest accepted document: parsing longer documents would delay other requests."""


class Unreadable(Exception):
    """The request is not a single GraphQL document with variables; the message contains the reason."""

    status = HTTPStatus.BAD_REQUEST


@dataclass(frozen=True)
class Mutation:
    """A field of a mutation, with its arguments as the server reads them."""

    name: str
    arguments: Mapping[str, Any]


@dataclass(frozen=True)
class Request:
    """Content of a document: its mutations, and whether all its operations are subscriptions."""

    mutations: tuple[Mutation, ...]
    subscribes: bool


def read_body(body: bytes) -> Request:
    """Read a request from the body of a POST. Raises Unreadable."""
    try:
        parsed = json.loads(body)
    except (ValueError, RecursionError):
        raise Unreadable("The body is not JSON.") from None
    return read_request(parsed)


def read_request(parsed: object) -> Request:
    """Read a request from parsed JSON. Raises Unreadable."""
    if not isinstance(parsed, dict):
        raise Unreadable("Send one GraphQL request at a time: an object with `query`.")
    query, variables = parsed.get("query"), parsed.get("variables")
    if not isinstance(query, str):
        raise Unreadable("The request's `query` must be a string.")
    if not isinstance(variables, dict | None):
        raise Unreadable("The request's `variables` must be an object.")
    try:
        document = parse(query, no_location=True, max_tokens=MAX_TOKENS)
        operations = [node for node in document.definitions if isinstance(node, OperationDefinitionNode)]
        mutations = [
            mutation
            for operation in operations
            if operation.operation is OperationType.MUTATION
            for mutation in _mutations(operation, document, variables or {})
        ]
    except GraphQLError as error:
        raise Unreadable(f"The query cannot be read: {error.message}") from None
    except RecursionError:
        raise Unreadable("The query is nested too deeply.") from None
    return Request(tuple(mutations), all(node.operation is OperationType.SUBSCRIPTION for node in operations))


def required_role(mutation: Mutation) -> Role:
    """The role that a mutation requires: analyst for launching and cancelling, else operator."""
    return "analyst" if mutation.name in LAUNCHING_RUNS | LAUNCHING_BACKFILLS | CANCELLING else "operator"


def would_record_unverified_name(mutation: Mutation) -> bool:
    """Whether a mutation would give the runs of a backfill an unverified name of their launcher.

    The daemon launches these runs with the backfill's tags. Runs that a person launches in the UI get the verified name
    instead.
    """
    tags = [value for key, value in _leaves(mutation.arguments) if key == "key"]
    return mutation.name in LAUNCHING_BACKFILLS and LAUNCHED_BY in tags


def _leaves(value: object, key: str = "") -> Iterator[tuple[str, object]]:
    """Yield every scalar value, with the name of its field."""
    if isinstance(value, Mapping):
        for name, inner in value.items():
            yield from _leaves(inner, name)
    elif isinstance(value, list):
        for inner in value:
            yield from _leaves(inner, key)
    else:
        yield key, value


def _mutations(
    operation: OperationDefinitionNode, document: DocumentNode, given: Mapping[str, Any]
) -> Iterator[Mutation]:
    variables = {
        definition.variable.name.value: value_from_ast_untyped(definition.default_value)
        for definition in operation.variable_definitions
        if definition.default_value is not None
    } | dict(given)
    fragments = {node.name.value: node for node in document.definitions if isinstance(node, FragmentDefinitionNode)}
    for field in _root_fields(operation.selection_set, fragments, set()):
        arguments = {node.name.value: value_from_ast_untyped(node.value, variables) for node in field.arguments}
        yield Mutation(field.name.value, arguments)


def _root_fields(
    selected: SelectionSetNode, fragments: Mapping[str, FragmentDefinitionNode], seen: set[str]
) -> Iterator[FieldNode]:
    """Yield the operation's top-level fields, also in fragments, regardless of @skip and @include."""
    for node in selected.selections:
        if isinstance(node, FieldNode):
            yield node
        elif isinstance(node, InlineFragmentNode):
            yield from _root_fields(node.selection_set, fragments, seen)
        elif isinstance(node, FragmentSpreadNode) and node.name.value not in seen and node.name.value in fragments:
            seen.add(node.name.value)
            yield from _root_fields(fragments[node.name.value].selection_set, fragments, seen)
