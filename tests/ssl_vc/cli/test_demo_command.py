"""Who may use the demo: passwords from a prompt, a file or the environment, and none in the list of processes."""

import sys
from types import SimpleNamespace

import pytest
import typer


@pytest.fixture
def users(run, monkeypatch):
    """Runs `ssl-vc demo`; returns its status, the users that it lets in, and stderr."""

    def start(*arguments, environment=""):
        launched = []
        module = SimpleNamespace(Studio=lambda *_: None, launch=lambda _, **options: launched.append(options["auth"]))
        monkeypatch.setattr(sys.modules["ssl_vc.cli.demo"], "import_module", lambda _: module)
        monkeypatch.setenv("SSL_VC_DEMO_AUTH", environment)
        status, _, err = run("demo", *arguments)
        return status, launched, err

    return start


def test_without_users_all_may_come(users):
    assert users() == (0, [None], "")


def test_a_password_is_asked_for(users, monkeypatch):
    asked = []

    def prompt(text, **options):
        asked.append((text, options["hide_input"]))
        return "se:cret word"

    monkeypatch.setattr(typer, "prompt", prompt)
    assert users("--auth", "anna") == (0, [[("anna", "se:cret word")]], "")
    assert asked == [("Password of anna", True)]


def test_a_file_and_the_environment_name_users(users, tmp_path):
    (tmp_path / "users").write_text("anna:a b\n\nbert:c:d\n")
    status, launched, err = users("--auth-file", tmp_path / "users", environment="carl:e\n")
    assert (status, launched, err) == (0, [[("anna", "a b"), ("bert", "c:d"), ("carl", "e")]], "")


def test_a_password_on_the_command_line_is_warned_of(users):
    status, launched, err = users("--auth", "anna:secret")
    assert (status, launched) == (0, [[("anna", "secret")]])
    assert (
        err.startswith("warning: a password on the command line shows in the list of processes") and "secret" not in err
    )


def test_mistakes_are_named_and_no_password_is_shown(users, tmp_path):
    (tmp_path / "users").write_text("anna:a\nsecret\n")
    status, launched, err = users("--auth-file", tmp_path / "users")
    assert (status, launched) == (2, []) and "line 2 of" in err and "USER:PASSWORD" in err and "secret" not in err
    status, _, err = users(environment="anna:")
    assert status == 2 and "line 1 of SSL_VC_DEMO_AUTH" in err
    status, _, err = users("--auth-file", tmp_path / "missing")
    assert status == 1 and err.startswith("error: ") and "missing cannot be read" in err
