"""Tables for spreadsheets: text is never a formula, and a number stays one."""

import csv
import io

import pytest

from ssl_vc.tables import format_csv


def cells(*values):
    return next(csv.reader(io.StringIO(format_csv("abcdefgh", [dict(zip("abcdefgh", values, strict=False))])[17:])))


@pytest.mark.parametrize("text", ["=1+1", "+A1", "-A1", "@SUM(A1)", "\t=1", "\r=1", " =1+1", "-", "=cmd|'/C calc'!A0"])
def test_formulas_become_text(text):
    assert cells(text)[0] == f"'{text}"


def test_everything_else_stays_as_it_is():
    values = ["a=b.wav", "", "'quoted'", "two\nlines, and a comma"]
    assert cells(*values)[:4] == values


def test_numbers_stay_numbers():
    assert cells(-16.0, "-16.0", "+3", "-1e-05", 7, None) == ["-16.0", "-16.0", "+3", "-1e-05", "7", "", "", ""]


def test_columns_are_in_order_and_others_are_left_out():
    assert format_csv(["b", "a"], [{"a": 1, "c": 2}]) == "b,a\r\n,1\r\n"
