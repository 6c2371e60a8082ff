"""Every sentence the checker can say, in English and Japanese; slips bring their own (see exercises)."""

from vlmcourse.exercises.base import Text


def _of(where: str) -> tuple[str, str]:
    """How to name a part of the output: 'the output' or 'output[1]'."""
    return (f"output{where}", f"出力{where}") if where else ("the output", "出力")


PASSED = Text(
    "passed. From here on the course runs your code.", "合格。ここから先、教材はあなたのコードを使います。"
)
NOT_WRITTEN = Text("not written yet.", "まだ書かれていません。")
NOT_RIGHT = Text("not right yet.", "まだ正しくありません。")
YOURS_STAYS = Text(
    "The version you passed earlier keeps running.", "以前に合格したあなたの版が動き続けます。"
)
REFERENCE_STAYS = Text(
    "The reference stands in, so the notebook goes on.", "ノートブックは参照実装で先へ進みます。"
)
PICTURES = {"expected": Text("expected", "正解"), "got": Text("got", "あなたの出力")}


def the_line(code: str) -> Text:
    return Text(f"The line: `{code}`", f"該当行: `{code}`")


def hint_is_there(function: str) -> Text:
    return Text(f"`hint({function})` gives you a first hint.", f"`hint({function})` でヒントが見られます。")


def not_saved(reason: object) -> Text:
    en, ja = getattr(reason, "says", (reason, reason))
    return Text(
        f"It runs in this notebook, but could not be saved for later chapters: {en}.",
        f"このノートブックでは動きますが、後の章のために保存できませんでした：{ja}。",
    )


def no_source(reason: Exception) -> Text:
    return Text(f"its source is not available ({reason})", f"ソースコードを読めません（{reason}）")


def no_def() -> Text:
    return Text("it is not written with `def`", "`def` で書かれていません")


def of_this_notebook(name: str, kind: str) -> Text:
    return Text(
        f"it uses `{name}`, a {kind} of this notebook; pass it in or compute it inside",
        f"このノートブックの `{name}`（{kind}）を使っています。引数で渡すか、関数の中で計算してください",
    )


def does_not_load(file: str, error: Exception) -> Text:
    return Text(
        f"my_vlm/{file} does not load: {error}. The reference stands in.",
        f"my_vlm/{file} を読み込めません：{error}。参照実装を使います。",
    )


def no_longer_passes(name: str, says: Text) -> Text:
    return Text(
        f"{name} from my_vlm/ no longer passes: {says.en} The reference stands in.",
        f"my_vlm/ の {name} は合格しなくなりました：{says.ja} 参照実装を使います。",
    )


def stops_python(name: str) -> Text:
    return Text(
        f"it stops Python itself ({name}). Return a value instead of calling exit().",
        f"Python 自体を終了させています（{name}）。exit() を呼ばず、値を返してください。",
    )


def recursion() -> Text:
    return Text(
        "it calls itself without end (RecursionError). Tensor operations need no recursion here.",
        "自分自身を際限なく呼び出しています（RecursionError）。ここではテンソル演算だけで書けます。",
    )


def out_of_memory() -> Text:
    return Text(
        "it asks for more memory than the check allows. Is a size multiplied where it should be divided?",
        "検査で許されるより多くのメモリを要求しています。割るべきところで掛けていませんか。",
    )


def too_slow(seconds: float) -> Text:
    return Text(
        f"no answer after {seconds:g} s, so it was stopped. Is there a loop that never ends?",
        f"{seconds:g} 秒たっても終わらないので停止しました。終わらないループはありませんか。",
    )


def crashed(code: int | None) -> Text:
    return Text(
        f"it brought down the Python process that checks it (exit code {code}). "
        "Your notebook is not affected.",
        f"検査用の Python プロセスが落ちました（終了コード {code}）。ノートブックには影響ありません。",
    )


def no_checker() -> Text:
    return Text(
        "it could not be checked: the checker process does not start. "
        "Run doctor() to see what this machine lacks.",
        "検査プロセスが起動しないため検査できませんでした。doctor() で足りないものを確認してください。",
    )


def cannot_travel(reason: str) -> Text:
    return Text(
        f"it uses something that cannot be sent to the checker: {reason}. "
        "Use only its arguments, torch and numbers.",
        f"検査プロセスに送れないものを使っています：{reason}。引数と torch と数値だけを使ってください。",
    )


def bad_signature(got: str, right: str) -> Text:
    return Text(
        f"its arguments are {got}, but must be {right}.", f"引数が {got} です。{right} にしてください。"
    )


def not_a_function(got: str) -> Text:
    return Text(
        f"this is a {got}; write a function with `def`.", f"{got} です。`def` で関数を書いてください。"
    )


def raises(kind: str, text: str, line: int | None, arguments: str) -> Text:
    at, ja = (f" in line {line}", f"{line} 行目で ") if line else ("", "")
    text = text if text.endswith((".", "?", "!")) else f"{text}."
    return Text(
        f"{kind}{at}: {text} The call was: {arguments}.", f"{ja}{kind}：{text} 呼び出し：{arguments}。"
    )


def returns_none(where: str) -> Text:
    en, ja = _of(where)
    return Text(f"{en} is None: is the `return` missing?", f"{ja}が None です。`return` を忘れていませんか。")


def wrong_type(where: str, got: str, right: str) -> Text:
    en, ja = _of(where)
    return Text(f"{en} is a {got}, expected a {right}.", f"{ja}は {got} ですが、{right} が必要です。")


def wrong_length(where: str, got: str, right: str) -> Text:
    en, ja = _of(where)
    return Text(f"{en} has {got}, expected {right}.", f"{ja}は {got} ですが、{right} が必要です。")


def wrong_dtype(where: str, got: object, right: object) -> Text:
    en, ja = _of(where)
    return Text(
        f"{en} has dtype {got}, expected {right}.", f"{ja}の dtype は {got} ですが、{right} が必要です。"
    )


def wrong_device(where: str, got: object, right: object) -> Text:
    en, ja = _of(where)
    return Text(
        f"{en} is on device {got}, expected {right}.", f"{ja}は {got} にありますが、{right} が必要です。"
    )


def changed_input(name: str | None) -> Text:
    return Text(
        f"it changes its input {name} in place; whoever called still needs it. Work on a new tensor.",
        f"入力 {name} を書き換えています。呼び出し側がまだ使うので、新しいテンソルで計算してください。",
    )


def axes_swapped(where: str, got: str, right: str, axes: str) -> Text:
    en, ja = _of(where)
    return Text(
        f"the sizes are right, the axes are in another order: {en} is {got}, expected {right} ({axes}).",
        f"サイズは合っていますが軸の順序が違います：{ja}は {got}、正しくは {right}（{axes}）。",
    )


def wrong_shape(where: str, got: str, right: str, axes: str) -> Text:
    en, ja = _of(where)
    return Text(
        f"{en} is {got}, expected {right} ({axes}).", f"{ja}は {got}、正しくは {right}（{axes}）です。"
    )


def not_finite(where: str, count: int, of: int) -> Text:
    en, ja = _of(where)
    return Text(
        f"{count:,} of {of:,} numbers in {en} are NaN or infinite. "
        "Look for a division by 0 or a softmax over -inf.",
        f"{ja}の {of:,} 個中 {count:,} 個が NaN か無限大です。"
        "0 での割り算や全て -inf の softmax を探してください。",
    )


def factor(where: str, number: str) -> Text:
    en, ja = _of(where)
    return Text(
        f"{en} is right up to a constant factor: every number is {number} times the expected one.",
        f"{ja}は定数倍を除いて正しいです：どの値も期待値の {number} 倍になっています。",
    )


def wrong_value(where: str, got: str, right: str) -> Text:
    en, ja = _of(where)
    return Text(f"{en} is {got}, expected {right}.", f"{ja}は {got}、正しくは {right} です。")


def first_difference(where: str, place: str, got: str, right: str, wrong: str) -> Text:
    en, ja = _of(where)
    return Text(
        f"the shape is right, but {wrong} numbers of {en} differ. "
        f"The first, at {place}: got {got}, expected {right}.",
        f"形は正しいですが、{ja}の {wrong} 個の値が違います。最初は {place}：{got}（正しくは {right}）。",
    )


def no_gradient(name: str) -> Text:
    return Text(
        f"the values are right, but no gradient reaches {name}, so nothing before it could learn. "
        "Look for detach(), .data, .item(), numpy() or torch.tensor(...).",
        f"値は正しいですが、{name} に勾配が届きません。これでは手前の部分が学習できません。"
        "detach()、.data、.item()、numpy()、torch.tensor(...) を探してください。",
    )


def wrong_gradient(name: str) -> Text:
    return Text(
        f"the values are right, but the gradient of {name} is not: part of the computation is cut off.",
        f"値は正しいですが、{name} の勾配が違います。計算の一部が切り離されています。",
    )


def fixed_dtype() -> Text:
    return Text(
        "right in float32, but not in float64. "
        "Make new tensors with the input's dtype (x.new_zeros, dtype=x.dtype).",
        "float32 では正しいですが float64 では違います。新しいテンソルは入力の dtype に合わせてください。",
    )


def fixed_device() -> Text:
    return Text(
        "right on the CPU, but it would fail on a GPU: "
        "make new tensors on the input's device (device=x.device).",
        "CPU では正しいですが GPU では失敗します。新しいテンソルは入力の device に作ってください。",
    )
