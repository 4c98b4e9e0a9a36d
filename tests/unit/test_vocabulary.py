"""Ids of k-mer vocabularies, against DNABERT's published ones."""

import itertools

import pytest

from annotator.tokens.vocabulary import AMBIGUOUS, DNABERT_SPECIAL, KmerVocabulary, dnabert_vocabulary


def test_dnabert_example_ids() -> None:
    vocabulary = dnabert_vocabulary(6)
    assert [vocabulary.encode(kmer) for kmer in ("ACGTAC", "CGTACG", "GTACGT")] == [727, 2896, 3378]


@pytest.mark.parametrize(("k", "size"), [(3, 69), (4, 261), (5, 1029), (6, 4101)])
def test_dnabert_sizes_and_order(k: int, size: int) -> None:
    vocabulary = dnabert_vocabulary(k)
    assert vocabulary.size == size == len(DNABERT_SPECIAL) + 4**k
    kmers = ["".join(letters) for letters in itertools.product("ATCG", repeat=k)]
    assert [vocabulary.encode(kmer) for kmer in kmers] == list(range(5, size))


def test_special_ids_have_no_kmer() -> None:
    vocabulary = dnabert_vocabulary(3)
    assert [vocabulary.decode(i) for i in (*DNABERT_SPECIAL.values(), 5 + 64)] == [None] * 6
    assert vocabulary.decode(5) == "AAA"


@pytest.mark.parametrize("kmer", ["ACN", "NNN", "ARG", "A-G"])
def test_ambiguous_kmers_are_unknown(kmer: str) -> None:
    assert dnabert_vocabulary(3).encode(kmer) == DNABERT_SPECIAL["[UNK]"]


def test_lower_case_is_unknown_to_dnabert_unless_asked_for() -> None:
    assert dnabert_vocabulary(3).encode("acg") == 1
    assert dnabert_vocabulary(3, lower_case=True).encode("acG") == dnabert_vocabulary(3).encode("ACG")


def test_uracil_counts_as_thymine() -> None:
    vocabulary = KmerVocabulary(3)
    assert vocabulary.encode("AUG") == vocabulary.encode("ATG") == vocabulary.encode("aug")


def test_tables_hold_every_byte() -> None:
    vocabulary = KmerVocabulary(1, order="ACGT", lower_case=False)
    bases = {ord(base): code for code, base in enumerate("ACGT")} | {ord("U"): 3}
    assert vocabulary.code_table.tolist() == [bases.get(byte, AMBIGUOUS) for byte in range(256)]
    assert vocabulary.complement_table.tolist() == [3 - bases[byte] if byte in bases else AMBIGUOUS for byte in range(256)]


@pytest.mark.parametrize("k", [0, 9])
def test_impossible_k_is_refused(k: int) -> None:
    with pytest.raises(ValueError, match=r"k must be 1\.\.8"):
        KmerVocabulary(k)


@pytest.mark.parametrize("order", ["ACG", "AACG", "acgt"])
def test_impossible_order_is_refused(order: str) -> None:
    with pytest.raises(ValueError, match="permutation of ACGT"):
        KmerVocabulary(3, order=order)


@pytest.mark.parametrize("ambiguous_id", [5, 68])
def test_ambiguous_id_of_a_kmer_is_refused(ambiguous_id: int) -> None:
    with pytest.raises(ValueError, match="is a k-mer's id"):
        KmerVocabulary(3, first_kmer_id=5, ambiguous_id=ambiguous_id)


def test_kmer_of_another_length_is_refused() -> None:
    with pytest.raises(ValueError, match="not a 3-mer"):
        KmerVocabulary(3).encode("ACGT")
