"""LAION's tables and shards: links that died, scores that are absent."""

import io
import json
import tarfile

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from vlmcourse.data.formats import reading
from vlmcourse.data.formats.laion import flat_sample, laion_record, read_laion
from vlmcourse.data.records import Record, RowError, Skips


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        (dict(URL="u", TEXT="a cat", similarity=0.31, NSFW="UNLIKELY", LICENSE="?", SAMPLE_ID=7.0),
         Record(captions=("a cat",), facts=dict(url="u", nsfw="UNLIKELY", similarity=0.31), key="7.0")),
        (dict(url="u", text="a cat", punsafe=0.0, pwatermark=None, similarity=float("nan"), nsfw=None),
         Record(captions=("a cat",), facts=dict(url="u", punsafe=0.0))),
        (dict(url="u", caption="A", txt="b", key="0000", picture=b"x", pwatermark=0.5),
         Record(b"x", captions=("b",), facts=dict(url="u", pwatermark=0.5), key="0000")),
        (dict(url="u", caption="A", txt=""), Record(captions=("A",), facts=dict(url="u"))),
        (dict(url=None, TEXT=None), Record()),
    ],
)  # fmt: skip
def test_columns_in_capitals_or_not(row, expected):
    assert laion_record(row) == expected


def test_a_sample_is_one_row():
    sample = {"__key__": "000000017", "txt": b"b", "json": b'{"url": "u", "key": "x"}', "jpg": b"p"}
    assert flat_sample(sample) == {"key": "000000017", "txt": "b", "url": "u", "picture": b"p"}
    del sample["jpg"], sample["json"]
    assert flat_sample(sample) == {"key": "000000017", "txt": "b"}
    for broken in (b"{", b"[1]", b"3", b"\xff"):
        with pytest.raises(RowError, match="broken JSON"):
            flat_sample(sample | {"json": broken})


def test_a_row_of_a_table_may_hold_its_picture():
    assert flat_sample({"key": "7", "jpg": b"p"}) == {"key": "7", "picture": b"p"}
    assert flat_sample({"image": {"bytes": b"p", "path": "a"}}) == {"picture": b"p"}
    assert flat_sample({"image": {"bytes": None, "path": "a"}, "jpg": None}) == {}


def test_a_table_has_captions_and_scores(tmp_path):
    table = pa.table({"URL": ["u", "v", "w"], "TEXT": ["a", "b", None],
                      "similarity": [0.3, float("nan"), 0.4],
                      "punsafe": [None, 0.2, 0.1], "WIDTH": [3, 4, 5]})  # fmt: skip
    pq.write_table(table, tmp_path / "part.parquet")
    skips = Skips(most=0.5)
    first, second = read_laion([tmp_path / "part.parquet"], skips)
    assert first == Record(captions=("a",), facts=dict(url="u", similarity=0.3))
    assert second.facts == dict(url="v", punsafe=0.2) and second.where == "part.parquet, row 2"
    assert skips.reasons == {"nothing is said": 1}


def jpeg(colour="red"):
    out = io.BytesIO()
    Image.new("RGB", (16, 16), colour).save(out, "JPEG")
    return out.getvalue()


def shard(path, samples):
    with tarfile.open(path, "w") as tar:
        for key, files in samples.items():
            for suffix, data in files.items():
                member = tarfile.TarInfo(f"{key}.{suffix}")
                member.size = len(data)
                tar.addfile(member, io.BytesIO(data))
    return path


def sample(text, **facts):
    meta = dict(caption=text, url="u", status="success", error_message=None) | facts
    return {"jpg": jpeg(), "json": json.dumps(meta, indent=4).encode(), "txt": text.encode()}


def test_a_shard_has_pictures_and_dead_links_do_no_harm(tmp_path):
    samples = {f"{n:09d}": sample(f"text {n}", similarity=0.3 if n else None) for n in range(3)}
    del samples["000000001"]["jpg"]
    samples["000000003"] = sample("", similarity=0.2)
    path = shard(tmp_path / "00000.tar", samples)
    skips = Skips(most=0.4)
    first, last = read_laion([path], skips)
    assert (first.captions, first.key, first.facts) == (("text 0",), "000000000", dict(url="u"))
    assert np.abs(first.load(16).astype(int) - (254, 0, 0)).max() < 3 and first.size() == (16, 16)
    assert last.facts == dict(url="u", similarity=0.3) and last.where == "00000.tar, row 3"
    assert skips.absent == {"no picture could be fetched": 1} and skips.reasons == {"nothing is said": 1}


def test_the_table_beside_a_shard_counts_what_could_not_be_fetched(tmp_path):
    table = pa.table({"url": ["u", "v"], "caption": ["a", "b"], "key": ["0", "1"],
                      "status": ["success", "failed_to_download"]})  # fmt: skip
    pq.write_table(table, tmp_path / "00000.parquet")
    skips = Skips()
    assert [record.key for record in read_laion([tmp_path / "00000.parquet"], skips)] == ["0"]
    assert skips.absent == {"no picture could be fetched": 1} and not len(skips)


def test_scores_that_the_first_samples_lack_are_read(tmp_path):
    samples = {f"{n:09d}": sample("a", **({"similarity": 0.25} if n == 7 else {"x": n})) for n in range(8)}
    assert [*read_laion([shard(tmp_path / "a.tar", samples)])][-1].facts == dict(url="u", similarity=0.25)


def test_links_in_an_archive_are_passed_over_and_large_files_are_skips(tmp_path, monkeypatch):
    samples = {"a/0": sample("a"), "b": sample("b"), "c": sample("c")}
    samples["b"]["jpg"] += b"0" * 9000
    path = shard(tmp_path / "a.tar", samples)
    with tarfile.open(path, "a") as tar:
        for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.DIRTYPE):
            member = tarfile.TarInfo("c.png")
            member.type, member.linkname = kind, "/etc/passwd"
            tar.addfile(member)
    monkeypatch.setattr(reading, "MOST_FILE", 9000)
    skips = Skips(most=0.5)
    first, last = read_laion([path], skips)
    assert first.key == "a/0" and last.captions == ("c",) and last.image == jpeg()
    assert skips.reasons == {"file too large": 1} and "a.tar, row 2: b.jpg has" in str(skips)


def test_a_file_that_was_cut_off_is_named(tmp_path):
    path = shard(tmp_path / "00000.tar", {f"{n:09d}": sample("a") for n in range(9)})
    path.write_bytes(path.read_bytes()[:-12_000])
    with pytest.raises(ValueError, match=r"00000\.tar cannot be read behind row \d+: .*; fetch it again"):
        [*read_laion([path])]
    (tmp_path / "a.parquet").write_bytes(b"PAR1 nothing")
    with pytest.raises(ValueError, match=r"a\.parquet cannot be read behind row 0"):
        [*read_laion([tmp_path / "a.parquet"])]
    with pytest.raises(ValueError, match=r"a\.zip is neither a \.tar shard nor a \.parquet table"):
        [*read_laion([tmp_path / "a.zip"])]
