"""What the pages themselves say, in both languages (words.json); everything else comes from the notebooks."""

import json
from pathlib import Path

WORDS: dict[str, dict[str, str]] = json.loads(Path(__file__).with_name("words.json").read_text("utf-8"))
