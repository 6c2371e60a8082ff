"""Every sentence of the checker and its cards, in English and Japanese; slips bring their own."""

import re
from typing import Any

from vlmcourse.exercises.base import Text

PHRASES = {
    "ready": ("{chapter}: ready", "{chapter}: 準備ができました"),
    "weights_kept": (
        "Saved as {path}; a later chapter can go on from it.",
        "{path} に保存しました。後の章で使えます。",
    ),
    "weights_not_kept": ("Not saved: {error}", "保存できませんでした：{error}"),
    "weights_taken": ("{name}: yours, from {path}", "{name}：あなたの重みを使います（{path}）"),
    "weights_shipped": (
        "{name}: the course's, since you have not trained yours yet (chapter {chapter}).",
        "{name}：コースの重みを使います（第 {chapter} 章であなたの重みを学習できます）。",
    ),
    "weights_misfit": (
        "The course's weights are used, since yours do not fit: {error}",
        "あなたの重みは合わないので、コースの重みを使います：{error}",
    ),
    "kept": (
        "Kept in {place}: each exercise that passes, and checkpoints of trainings.",
        "{place} に、合格した演習と学習のチェックポイントを保存します。",
    ),
    "not_kept": (
        "A Colab session ends without warning: `keep_on_drive()` in a cell keeps what you pass and train.",
        "Colab は予告なく終わります。`keep_on_drive()` を実行すると、合格したものと学習したものが残ります。",
    ),
    "brought_back": ("Brought back from {place}: {count} files", "{place} から戻したファイル：{count} 個"),
    "not_brought_back": (
        "Nothing could be brought back from {place}: {error}",
        "{place} から何も戻せませんでした：{error}",
    ),
    "damaged_copy": (
        "A copy is not whole and was passed over: {name}",
        "壊れているので使わなかったコピー：{name}",
    ),
    "runs_on": ("Runs on: {device}", "計算装置: {device}"),
    "your_code": ("Your code runs as: {slots}", "あなたのコードを使うもの: {slots}"),
    "passed": (
        "{slot}: passed. From here on the course runs your code.",
        "{slot}: 合格。ここから先、教材はあなたのコードを使います。",
    ),
    "not_written": ("{slot}: not written yet. {stays}", "{slot}: まだ書かれていません。 {stays}"),
    "not_right": ("{slot}: not right yet.", "{slot}: まだ正しくありません。"),
    "yours_stays": (
        "The version you passed earlier keeps running.",
        "以前に合格したあなたの版が動き続けます。",
    ),
    "reference_stays": (
        "The reference stands in, so the notebook goes on.",
        "ノートブックは参照実装で先へ進みます。",
    ),
    "nothing_stands_in": (
        "Nothing stands in: cells that need it stop until it passes.",
        "参照実装は使われません。これを使うセルは、合格するまで止まります。",
    ),
    "left_open": (
        "{slot} is an open exercise of chapter {chapter}, and this class has no references: write it there.",
        "{slot} は第 {chapter} 章の未解答の問題です。この授業に参照実装はありません。そこで書いてください。",
    ),
    "no_references": (
        "No references: an exercise that is open stops what needs it.",
        "参照実装なし：未解答の問題を使うセルは止まります。",
    ),
    "expected": ("expected", "正解"),
    "got": ("got", "あなたの出力"),
    "the_line": ("The line: `{code}`", "該当行: `{code}`"),
    "hint_is_there": (
        "`hint({function})` gives you a first hint.",
        "`hint({function})` でヒントが見られます。",
    ),
    "hint": ("{slot}: hint {number}/{last}", "{slot}: ヒント {number}/{last}"),
    "solution": ("{slot}: the course's version", "{slot}: 参照実装"),
    "not_saved": (
        "It runs in this notebook, but could not be saved for later chapters: {reason}.",
        "このノートブックでは動きますが、後の章のために保存できませんでした：{reason}。",
    ),
    "no_source": ("its source is not available ({error})", "ソースコードを読めません（{error}）"),
    "no_def": ("`{name}` is not written with `def`", "`{name}` が `def` で書かれていません"),
    "file_differs": (
        "as a file of its own it does not do the same: {says}",
        "単独のファイルでは同じように動きません：{says}",
    ),
    "left_alone": (
        "Left alone in my_vlm/, since no exercise has such a name: {files}",
        "my_vlm/ にある次のファイルは演習のものではないので使いません：{files}",
    ),
    "from_diary": ("From your diary, {place}", "記録：{place}"),
    "damaged_lines": (
        "Lines of it that are damaged and do not count: {count} ({numbers})",
        "壊れていて数えられない行：{count} 行（{numbers}）",
    ),
    "so_far": (
        "So far: {passed} of {exercises} exercises passed, {complete} of {chapters} chapters complete",
        "これまでの学習：演習 {exercises} 問中 {passed} 問に合格、{chapters} 章中 {complete} 章を完了",
    ),
    "chapter": ("chapter", "章"),
    "exercises_passed": ("exercises passed", "合格した演習"),
    "quizzes_right": ("quiz answers right", "クイズの正解"),
    "to_come": ("to come", "準備中"),
    "in_all": ("in all", "合計"),
    "no_diary": ("Your diary cannot be read: {error}", "記録を読めません：{error}"),
    "kept_unchecked": (
        "{slot} from my_vlm/ could not be checked again; it passed as it is, and runs.",
        "my_vlm/ の {slot} は再検査できませんでしたが、このまま合格したものなので使います。",
    ),
    "of_this_notebook": (
        "it uses `{name}`, a {kind} of this notebook; pass it in or compute it inside",
        "このノートブックの `{name}`（{kind}）を使っています。引数で渡すか、関数の中で計算してください",
    ),
    "does_not_load": (
        "my_vlm/{file} does not load: {error}. The reference stands in.",
        "my_vlm/{file} を読み込めません：{error}。参照実装を使います。",
    ),
    "no_longer_passes": (
        "{slot} from my_vlm/ no longer passes: {says} The reference stands in.",
        "my_vlm/ の {slot} は合格しなくなりました：{says} 参照実装を使います。",
    ),
    "stops_python": (
        "it stops Python itself ({kind}). Return a value instead of calling exit().",
        "Python 自体を終了させています（{kind}）。exit() を呼ばず、値を返してください。",
    ),
    "recursion": (
        "it calls itself without end (RecursionError). Tensor operations need no recursion here.",
        "自分自身を際限なく呼び出しています（RecursionError）。ここではテンソル演算だけで書けます。",
    ),
    "out_of_memory": (
        "it asks for more memory than the check allows. Is a size multiplied where it should be divided?",
        "検査で許されるより多くのメモリを要求しています。割るべきところで掛けていませんか。",
    ),
    "too_slow": (
        "no answer after {seconds:g} s, so it was stopped. Is there a loop that never ends?",
        "{seconds:g} 秒たっても終わらないので停止しました。終わらないループはありませんか。",
    ),
    "own_slot": (
        "it calls {slot}, which it is to replace: once passed it would call itself without end. "
        "Write the steps out.",
        "置き換える対象の {slot} 自身を呼んでいます。合格後は自分を際限なく呼ぶことになります。"
        "手順を自分で書いてください。",
    ),
    "too_many": (
        "it starts more than {most} processes, or hundreds of threads, so it was stopped. It needs none.",
        "{most} 個を超えるプロセス、または数百のスレッドを起動したので停止しました。どちらも必要ありません。",
    ),
    "crashed": (
        "it brought down the Python process that checks it (exit code {code}). "
        "Your notebook is not affected.",
        "検査用の Python プロセスが落ちました（終了コード {code}）。ノートブックには影響ありません。",
    ),
    "no_checker": (
        "it could not be checked: the checker process does not start. "
        "Run doctor() to see what this machine lacks.",
        "検査プロセスが起動しないため検査できませんでした。doctor() で足りないものを確認してください。",
    ),
    "cannot_travel": (
        "it uses something that cannot be sent to the checker: {reason}. "
        "Use only its arguments, torch and numbers.",
        "検査プロセスに送れないものを使っています：{reason}。引数と torch と数値だけを使ってください。",
    ),
    "bad_signature": (
        "its arguments are {got}, but must be {right}.",
        "引数が {got} です。{right} にしてください。",
    ),
    "not_a_function": (
        "this is a {kind}; write a function with `def`.",
        "{kind} です。`def` で関数を書いてください。",
    ),
    "in_line": (" in line {line}", "{line} 行目で "),
    "raises": ("{kind}{at}: {error} The call was: {call}.", "{at}{kind}：{error} 呼び出し：{call}。"),
    "missing_import": (
        "`{name}` is not there yet: write `{line}` above the function.",
        "`{name}` がまだありません。関数の上に `{line}` と書いてください。",
    ),
    "returns_none": (
        "{output} is None: is the `return` missing?",
        "{output}が None です。`return` を忘れていませんか。",
    ),
    "wrong_type": (
        "{output} is a {got}, expected a {right}.",
        "{output}は {got} ですが、{right} が必要です。",
    ),
    "wrong_length": (
        "{output} has {got}, expected {right}.",
        "{output}は {got} ですが、{right} が必要です。",
    ),
    "items": ("Missing: {lacks}; too many: {extra}.", "足りないもの：{lacks}。余分なもの：{extra}。"),
    "wrong_size": (
        "{output} has length {got}, expected {right}.",
        "{output}の長さは {got} ですが、{right} が必要です。",
    ),
    "wrong_dtype": (
        "{output} has dtype {got}, expected {right}.",
        "{output}の dtype は {got} ですが、{right} が必要です。",
    ),
    "wrong_device": (
        "{output} is on device {got}, expected {right}.",
        "{output}は {got} にありますが、{right} が必要です。",
    ),
    "changed_input": (
        "it changes its input {name} in place; whoever called still needs it. Work on a new tensor.",
        "入力 {name} を書き換えています。呼び出し側がまだ使うので、新しいテンソルで計算してください。",
    ),
    "changed_held": (
        "it changes its input {name} in place; whoever called still needs it. Work on a copy.",
        "入力 {name} を書き換えています。呼び出し側がまだ使うので、コピーに対して処理してください。",
    ),
    "axes_swapped": (
        "the sizes are right, the axes are in another order: {output} is {got}, expected {right} ({axes}).",
        "サイズは合っていますが軸の順序が違います：{output}は {got}、正しくは {right}（{axes}）。",
    ),
    "wrong_shape": (
        "{output} is {got}, expected {right} ({axes}).",
        "{output}は {got}、正しくは {right}（{axes}）です。",
    ),
    "not_finite": (
        "{count:,} of {all:,} numbers in {output} are NaN or infinite. "
        "Look for a division by 0 or a softmax over -inf.",
        "{output}の {all:,} 個中 {count:,} 個が NaN か無限大です。"
        "0 での割り算や全て -inf の softmax を探してください。",
    ),
    "factor": (
        "{output} is right up to a constant factor: every number is {factor:.4g} times the expected one.",
        "{output}は定数倍を除いて正しいです：どの値も期待値の {factor:.4g} 倍になっています。",
    ),
    "wrong_value": ("{output} is {got}, expected {right}.", "{output}は {got}、正しくは {right} です。"),
    "first_difference": (
        "the shape is right, but {count:,} of {all:,} numbers of {output} differ. "
        "The first, at {place}: got {got}, expected {right}.",
        "形は正しいですが、{output}の {all:,} 個中 {count:,} 個の値が違います。"
        "最初は {place}：{got}（正しくは {right}）。",
    ),
    "must_raise": (
        "it must raise {right} here. The call was: {call}.",
        "ここでは {right} を送出しなければなりません。呼び出し：{call}。",
    ),
    "raises_other": (
        "it raises {got}, but must raise {right} here. The call was: {call}.",
        "{got} を送出していますが、ここでは {right} を送出しなければなりません。呼び出し：{call}。",
    ),
    "the_call": ("The call was: {call}.", "呼び出し：{call}。"),
    "only_shape": (
        "The numbers are right and in order; only the shape is not.",
        "値と並びは正しく、形だけが違います。",
    ),
    "only_first": ("It holds the first {axis} only.", "最初の {axis} しか入っていません。"),
    "wrong_step": (
        "in line {line}, `{got}`: with `{right}` in its place the output would be right.",
        "{line} 行目の `{got}` を `{right}` に置き換えると、出力は正しくなります。",
    ),
    "wrong_step_somewhere": (
        "in line {line}, `{got}`: with `{right}` in its place {mended} of {all} wrong cases would be right.",
        "{line} 行目の `{got}` を `{right}` に置き換えると、違う {all} 件中 {mended} 件は正しくなります。",
    ),
    "unread": ("`{name}` is never read.", "`{name}` が一度も使われていません。"),
    "right_for": (
        "the output would be right for `{changed}` in place of `{name}`.",
        "`{name}` の代わりに `{changed}` が渡されていれば、この出力は正しいものです。",
    ),
    "never_called": (
        "`{name}` is never called; it must be called {right} ×.",
        "`{name}` が一度も呼ばれていません。{right} 回呼ぶ必要があります。",
    ),
    "called_times": (
        "`{name}` is called {got} ×, expected {right} ×.",
        "`{name}` が {got} 回呼ばれています。正しくは {right} 回です。",
    ),
    "call_order": (
        "the calls come in the order {got}; expected {right}.",
        "呼び出しの順序が {got} です。正しくは {right} です。",
    ),
    "other_call": (
        "it calls `{got}`, expected `{right}`.",
        "`{got}` を呼んでいますが、正しくは `{right}` です。",
    ),
    "other_values": (
        "`{name}` is called with other values than it should be, first in its call number {number}.",
        "`{name}` に渡している値が正しくありません（最初は {number} 回目の呼び出し）。",
    ),
    "repeated": (
        "right only while nothing in {names} repeats: an index that comes twice must count twice.",
        "{names} に重複がない場合だけ正しいです。二度現れる添字は二度数えなければなりません。",
    ),
    "right_before": (
        "Right are the cases with {name} = {good}; those with {name} = {bad} are not.",
        "{name} = {good} の場合は正しく、{name} = {bad} の場合だけ違います。",
    ),
    "outputs_swapped": ("the two outputs are exchanged.", "二つの出力が入れ替わっています。"),
    "right_outputs": ("Right: {names}.", "正しいもの：{names}。"),
    "all_alike": (
        "all numbers of {output} are the same: {value}.",
        "{output}の値がすべて同じです：{value}。",
    ),
    "inverted": (
        "{output} is inverted: True and False are exchanged.",
        "{output}の True と False が逆です。",
    ),
    "moved": (
        "{output} is moved by one place along {axis}: what belongs to place 0 stands at place 1, and so on.",
        "{output}が {axis} の軸で一つ後ろにずれています。0 番の値が 1 番にあり、以下同様です。",
    ),
    "moved_back": (
        "{output} is moved by one place along {axis}: what belongs to place 1 stands at place 0, and so on.",
        "{output}が {axis} の軸で一つ前にずれています。1 番の値が 0 番にあり、以下同様です。",
    ),
    "reversed": ("{output} is reversed along {axis}.", "{output}が {axis} の軸で逆順です。"),
    "transposed": (
        "{output} is transposed: {axis} and {other} are exchanged.",
        "{output}が転置されています：{axis} と {other} が逆です。",
    ),
    "other_places": (
        "{output} holds the right numbers, but at other places.",
        "{output}の値は正しいですが、位置が違います。",
    ),
    "first_for_all": (
        "{output} holds what belongs to {axis} 0 at every {axis}.",
        "{output}のどの {axis} にも、{axis} 0 の値が入っています。",
    ),
    "offset": (
        "every number of {output} is off by {offset}.",
        "{output}のどの値も {offset} だけずれています。",
    ),
    "nearly": (
        "nearly right: no number of {output} is off by more than {most}. "
        "Look for epsilon, a rounded number, or another version of a formula.",
        "ほぼ正しいです。{output}のずれは最大 {most} です。epsilon、丸めた数、式の別の版を探してください。",
    ),
    "backwards": ("{output} is backwards.", "{output}が逆順です。"),
    "other_case": ("{output} differs only in capital letters.", "{output}は大文字と小文字だけが違います。"),
    "text_lacks": (
        "{output} is right but for what is missing: {pieces}.",
        "{output}に足りないもの：{pieces}。ほかは正しいです。",
    ),
    "text_more": (
        "{output} is right but for what is too much: {pieces}.",
        "{output}に余分なもの：{pieces}。ほかは正しいです。",
    ),
    "other_spaces": (
        "{output} differs only in spaces and line ends.",
        "{output}は空白と改行だけが違います。",
    ),
    "other_order": (
        "{output} holds the right items in another order.",
        "{output}の要素は正しいですが順序が違います。",
    ),
    "one_wrong": ("Only {axis} {place} is wrong.", "{axis} {place} だけが違います。"),
    "one_right": ("Only {axis} {place} is right.", "正しいのは {axis} {place} だけです。"),
    "some_right": (
        "Right: {axis} {good}; wrong: {axis} {bad}.",
        "正しい：{axis} {good}。違う：{axis} {bad}。",
    ),
    "other_keys_first": (
        "the entries of {output} are right, but their order counts here: it is {got}, expected {right}.",
        "{output}の中身は正しいですが、ここでは順序も問われます：{got}、正しくは {right} です。",
    ),
    "unsteady": (
        "a second call with the same arguments gives something else: it draws random numbers, "
        "or keeps something from call to call.",
        "同じ引数で二度呼ぶと結果が変わります。乱数を使うか、前の呼び出しの値を残しています。",
    ),
    "leaves_the_work": (
        "the values are right, but torch's {name} made them, and that is what you are to build.",
        "値は正しいですが、計算したのは torch の {name} です。それを自分で組み立てるのがこの課題です。",
    ),
    "needs_gradient": (
        "the values are right, but the call fails as soon as a gradient is needed:",
        "値は正しいですが、勾配が必要になると呼び出しが失敗します：",
    ),
    "keeps_graph": (
        "the values are right, but they keep the graph they were made with, and its memory. "
        "Look for create_graph=True.",
        "値は正しいですが、計算グラフを持ったままなので、そのメモリも残ります。"
        "create_graph=True を探してください。",
    ),
    "no_gradient": (
        "the values are right, but no gradient reaches {name}, so nothing before it could learn. "
        "Look for detach(), .data, no_grad, .item(), float(), math.*, numpy(), nn.Parameter "
        "or torch.tensor(...).",
        "値は正しいですが、{name} に勾配が届きません。これでは手前の部分が学習できません。"
        "detach()、.data、no_grad、.item()、float()、math.*、numpy()、nn.Parameter、"
        "torch.tensor(...) を探してください。",
    ),
    "wrong_gradient": (
        "the values are right, but the gradient of {name} is not: part of the computation is cut off, "
        "or something that should be a constant (detach) is not.",
        "値は正しいですが、{name} の勾配が違います。計算の一部が切り離されているか、"
        "定数であるべきもの（detach）が定数になっていません。",
    ),
    "fixed_dtype": (
        "right as given, but not in {dtype}. "
        "Make new tensors with the input's dtype (x.new_zeros, dtype=x.dtype).",
        "与えられた精度では正しいですが、{dtype} では違います。"
        "新しいテンソルは入力の dtype に合わせてください。",
    ),
    "numpy_elsewhere": (
        "right on the CPU, but NumPy cannot read a tensor on a GPU: stay in torch, "
        "or go over by x.cpu().numpy() and come back by .to(x.device).",
        "CPU では正しいですが、NumPy は GPU のテンソルを読めません。torch だけで書くか、"
        "x.cpu().numpy() で移し、結果を .to(x.device) で戻してください。",
    ),
    "fixed_device": (
        "right on the CPU, but it would fail on a GPU: "
        "make new tensors on the input's device (device=x.device).",
        "CPU では正しいですが GPU では失敗します。新しいテンソルは入力の device に作ってください。",
    ),
}


def phrase(sentence: str, /, where: str = "", **words: Any) -> Text:
    """A sentence by its name, in both languages.

    Args:
        where: the part of the output that ``{output}`` speaks of, such as "[1]"; "" is all of it.
        words: what else is put in; a Text in the version of each language.
    """
    words["output"] = Text(f"output{where}" if where else "the output", f"出力{where}")
    english, japanese = PHRASES[sentence]
    en = {name: word.en if isinstance(word, Text) else word for name, word in words.items()}
    ja = {name: word.ja if isinstance(word, Text) else word for name, word in words.items()}
    return Text(_with_articles(english, en).format(**en), japanese.format(**ja))


def _with_articles(template: str, words: dict[str, Any]) -> str:
    """The template with "an" where it has "a" before a word that starts with a vowel's letter."""
    vowel = {name for name, word in words.items() if str(word)[:1].lower() in tuple("aeiou")}
    return re.sub(r"\ba (?=\{(\w+)\})", lambda found: "an " if found[1] in vowel else "a ", template)


def joined(*texts: Text | None) -> Text:
    """Several sentences one after the other, without those that are missing."""
    first, *more = [text for text in texts if text]
    more = [text.en[:1].upper() + text.en[1:] for text in more], [text.ja for text in more]
    return Text(" ".join([first.en, *more[0]]), "".join([first.ja, *more[1]]))
