"""What the local stack writes down for other commands."""

from __future__ import annotations

from pathlib import Path

from streams.stack.up import Ports, Stack, StackPlan

SECRETS = {
    "OANDA_API_KEY": "key-0123456789abcdef",
    "API_TOKEN": "token-0123456789abcdef",
    "KAFKA_SASL_PASSWORD": "password-0123456789",
    "SCHEMA_REGISTRY_PASSWORD": "registry-0123456789",
}


def text_of(directory: Path, environment: dict[str, str]) -> str:
    stack = Stack(StackPlan("embedded", directory, Ports(), 1, 0, None), environment)
    return stack._env_text()


def test_no_secret_is_written_into_the_file_for_other_commands(tmp_path: Path) -> None:
    text = text_of(tmp_path, SECRETS | {"MAX_SPREAD_BPS": "6", "OANDA_ACCOUNT_ID": "101-1"})
    assert "MAX_SPREAD_BPS=6" in text and "OANDA_ACCOUNT_ID=101-1" in text
    assert not [name for name, secret in SECRETS.items() if secret in text]


def test_where_a_secret_lies_is_written_and_the_stack_makes_its_own_token(tmp_path: Path) -> None:
    text = text_of(tmp_path, {"OANDA_API_KEY_FILE": "/run/key"})
    assert "OANDA_API_KEY_FILE=/run/key" in text
    token = (tmp_path / "api.token").read_text()
    assert f"API_TOKEN_FILE={tmp_path / 'api.token'}" in text and token not in text
