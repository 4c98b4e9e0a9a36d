"""The error for a refused letter in a sequence, which tells a slip in a DNA file from a protein file."""

from __future__ import annotations

from dataclasses import dataclass, field

from annotator.errors import InputError
from annotator.genome.alphabet import NOT_NUCLEOTIDE

SAMPLE_BYTES = 4096
_PROTEIN_SHARE = 0.1


@dataclass(slots=True)
class SequenceFault:
    """Holds back the error for a refused letter until enough of the contig was seen to say what the file is.

    Attributes:
        message: The error as it stands.
        letters_before: Bases of the contig before the refused letter.
        sample: The file from the refused letter on, at most SAMPLE_BYTES.
    """

    message: str
    letters_before: int
    sample: bytearray = field(default_factory=bytearray)

    def add(self, data: bytes) -> bool:
        """Take in what follows; True once the sample is full."""
        self.sample += data[: SAMPLE_BYTES - len(self.sample)]
        return len(self.sample) == SAMPLE_BYTES

    def error(self) -> InputError:
        """The error; it says "looks like protein" where more than a tenth of the contig's letters are no nucleotides."""
        rest = bytes(self.sample).upper().split(b"\n>", 1)[0]
        letters = self.letters_before + sum(rest.count(letter) for letter in range(ord("A"), ord("Z") + 1))
        strange = sum(rest.count(letter) for letter in NOT_NUCLEOTIDE)
        if strange > _PROTEIN_SHARE * letters:
            share = f"{100 * strange / letters:.0f} % of its letters are no nucleotide codes"
            return InputError(f"{self.message}; looks like protein ({share})")
        return InputError(self.message)
