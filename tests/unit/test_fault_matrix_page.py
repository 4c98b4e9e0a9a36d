"""The page of the fault matrix is that of the tests there are, and no row lacks one."""

from tests.support.fault_matrix import PAGE, ROWS, named_tests, page


def test_the_page_is_up_to_date() -> None:
    assert PAGE.read_text() == page(), "run python -m tests.support.fault_matrix"


def test_every_row_has_a_test_and_every_test_a_row() -> None:
    found = {row for row, files in named_tests().items() if files}
    assert found == set(ROWS) - {"F01"}
