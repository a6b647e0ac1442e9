"""Builds data/hr_policies/*.docx, the sample company's handbook, from the texts in data/handbook/*.txt.

Run it from the repository's root after changing a text: ``python -m data.build_hr_policies``. The output is the same
bytes every time, so a rebuild without a change of text leaves the committed files as they are.
"""

import argparse
from pathlib import Path

from data.handbook import markup, word

TEXTS = Path(__file__).parent / "handbook"
POLICIES = Path(__file__).parent / "hr_policies"


def build(out: Path, texts: Path = TEXTS) -> list[Path]:
    """Write one .docx under ``out`` for each text and return their paths, in the order of the texts."""
    written = []
    for text in sorted(texts.rglob("*.txt")):
        source = markup.read(text)
        target = out / source.file
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(word.render(source))
        written.append(target)
    return written


def main() -> None:
    parser = argparse.ArgumentParser(description="Build the sample company's handbook as Word files.")
    parser.add_argument("--out", type=Path, default=POLICIES, help="folder for the .docx files")
    for path in build(parser.parse_args().out):
        print(f"{path.stat().st_size:>7,} bytes  {path}")


if __name__ == "__main__":
    main()
