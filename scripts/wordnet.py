"""Build ``src/ecowas_lc/documents/wordnet/`` from the wordnets' own files.

    python scripts/wordnet.py WORDNET_FOLDER FRENCH.tab PORTUGUESE.tab…

``WORDNET_FOLDER`` holds Princeton WordNet 3.0's ``index.noun`` … ``index.adv``; the others are the tables of the
Open Multilingual Wordnet (``wn-data-fra.tab``, ``wn-data-por.tab``, ``wn-wikt-por.tab``). Only single words are
kept, of English the first four senses of each, and only senses that two words share. A line is a stem and its
senses.
"""

from __future__ import annotations

import gzip
import re
import string
import sys
from collections import defaultdict
from pathlib import Path

from snowballstemmer import stemmer

from ecowas_lc.documents.facts import folded

KINDS = {"noun": "n", "verb": "v", "adj": "a", "adv": "r"}
STEMMERS = {"en": stemmer("english"), "fr": stemmer("french"), "pt": stemmer("portuguese")}
MOST_SENSES_OF_A_WORD, MOST_SENSES_OF_A_STEM = 4, 60
TARGET = Path("src/ecowas_lc/documents/wordnet")


def short(number: int) -> str:
    """Return a number in base 36."""
    digits = string.digits + string.ascii_lowercase
    found = digits[number % 36]
    while number := number // 36:
        found = digits[number % 36] + found
    return found


def main(folder: Path, tables: list[Path]) -> None:
    """Write the three files."""
    stems: dict[str, dict[str, set[str]]] = {language: defaultdict(set) for language in STEMMERS}

    def add(language: str, word: str, sense: str) -> None:
        if re.fullmatch(r"[^\W\d_]{2,}", word) and not (language != "en" and word[0].isupper()):
            stem = STEMMERS[language]
            for found in {folded(stem.stemWord(word.lower())), stem.stemWord(folded(word))}:
                stems[language][found].add(sense)

    for name, kind in KINDS.items():
        for line in (folder / f"index.{name}").read_text(encoding="utf-8").splitlines():
            if not line.startswith("  "):
                word, _, _, pointers, *rest = line.split()
                for offset in rest[int(pointers) + 2 :][:MOST_SENSES_OF_A_WORD]:
                    add("en", word, f"{offset}-{kind}")
    for table in tables:
        for line in table.read_text(encoding="utf-8").splitlines():
            parts = line.split("\t")
            if not line.startswith("#") and len(parts) >= 3 and parts[1].endswith("lemma"):
                language = "fr" if "fra" in table.name else "pt"
                add(language, parts[2].strip(), parts[0].replace("-s", "-a"))

    having: dict[str, set[tuple[str, str]]] = defaultdict(set)
    for language, its_stems in stems.items():
        for stem, senses in its_stems.items():
            for sense in senses:
                having[sense].add((language, stem))
    shared = [sense for sense, words in having.items() if len({stem for _, stem in words}) > 1]
    shared.sort(key=lambda sense: (-len(having[sense]), sense))
    # A verb's sense begins with V.
    names = {s: ("V" if s.endswith("-v") else "") + short(number) for number, s in enumerate(shared)}
    for language, its_stems in stems.items():
        lines = []
        for stem, senses in sorted(its_stems.items()):
            kept = sorted(names[sense] for sense in senses if sense in names)
            if 0 < len(kept) <= MOST_SENSES_OF_A_STEM:
                lines.append(f"{stem} {' '.join(kept)}")
        packed = gzip.compress(("\n".join(lines) + "\n").encode(), 9, mtime=0)
        (TARGET / f"{language}.txt.gz").write_bytes(packed)
        print(language, len(lines), "stems,", len(packed), "bytes")


if __name__ == "__main__":
    main(Path(sys.argv[1]), [Path(name) for name in sys.argv[2:]])
