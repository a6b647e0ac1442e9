"""`quantahr index`: what the assistant has read, and what HR should look at."""

from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from quantahr.errors import PolicyError
from quantahr.policies import load_folder, summarise


def print_library(folder: Path, console: Console, *, with_sections: bool) -> None:
    """Print the documents of `folder`, their sections if wanted, and the findings. Raises PolicyError."""
    if not folder.is_dir():
        raise PolicyError(f"There is no folder {folder}. Name the folder that holds the HR documents.")
    library = load_folder(folder)
    table = Table("Document", "Title", "Sections", "Words", "For")
    for document in library.documents:
        words = sum(len(section.text.split()) for section in document.sections)
        roles = sorted({role for section in document.sections for role in section.audience})
        readers = "everyone" if roles == ["employee"] else ", ".join(roles)
        table.add_row(escape(document.name), escape(document.title), str(len(document.sections)), str(words), readers)
    console.print(table)
    if with_sections:
        for section in library.sections:
            console.print(f"[bold]{escape(section.document)}[/] {escape(' > '.join(section.heading_path))}")
    findings = [*library.findings, *(finding for document in library.documents for finding in document.findings)]
    if findings:
        console.print("\n[bold]For HR to look at[/]")
        for line in summarise(findings):
            console.print(f"- {escape(line)}", highlight=False)
    console.print(f"\n{len(library.sections)} sections, version {library.version}.", highlight=False)
