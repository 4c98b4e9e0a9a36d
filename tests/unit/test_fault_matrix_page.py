"""The page of the fault matrix is that of the tests there are, and no row lacks one."""

from tests.support.fault_matrix import PAGE, ROWS, named_tests, page


def test_the_page_is_up_to_date() -> None:
    assert PAGE.read_text() == page(), "run python -m tests.support.fault_matrix"


def test_every_row_has_a_test_and_every_test_a_row() -> None:
    assert set(named_tests()) == set(ROWS) - {"F01"}


def test_every_row_of_the_input_the_outputs_and_security_has_a_test_that_runs_by_default() -> None:
    by_default = {row for row, tests in named_tests().items() if not all(test.slow for test in tests)}
    assert by_default >= {row for row in ROWS if row[0] in "ABCF"} - {"F01"}
