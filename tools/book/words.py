"""What the pages themselves say, in both languages; everything else comes from the notebooks."""

WORDS = {
    "en": {
        "language": "English",
        "course": "Build a vision-language model yourself",
        "intro": "You know how a language model works. In this course you write the parts that let one <em>see</em>: "
        "the image encoder, the connector, the training, the measurements. This is the course to read: every chapter "
        "as it looks once its notebook has run, on two CPU cores.",
        "read": "Figures and numbers come from that run. Most tools can be clicked, and quizzes answer you. Where a "
        "function is yours to write, its hints and the course's own version stand behind a click: try first.",
        "run": "To learn it, open the notebooks: there your functions are checked as you write them, and the models "
        "you train run your code.",
        "skip": "Skip to the text",
        "chapters": "Chapters",
        "home": "The course",
        "terms": "Index of terms",
        "terms_intro": "Each term stands beside the place that <strong>teaches</strong> it and the place that "
        "<strong>proves</strong> it: code that measures a claim and asserts it, or an exercise.",
        "here": "On this page",
        "search": "Search the course",
        "found": "Found",
        "theme": "Light or dark",
        "pages": "Previous and next chapter",
        "previous": "Previous",
        "next": "Next",
        "open": "Run it:",
        "download": "Notebook (.ipynb)",
        "yours": "Your turn: in the notebook you write this function, and a check says at once what is right.",
        "hint": "Hint {number} of {last}",
        "solution": "Solution",
        "kernel": "This tool asks a model, so it needs the notebook to answer you. The picture shows it in use.",
        "recorded": "On this page the tool knows the queries on its buttons; in the notebook, any.",
        "copy": "Copy",
        "copied": "Copied",
        "minutes": "minutes",
        "build": "you will build",
        "chapter": "chapter",
        "gpu": "GPU?",
        "section_link": "Link to this section",
        "foot": "MIT licence. Drawings of OpenMoji are CC BY-SA 4.0. These pages were made from the executed "
        "notebooks by <code>make book</code>.",
    },
    "ja": {
        "language": "日本語",
        "course": "視覚言語モデルを自分で作る",
        "intro": "言語モデルの仕組みはすでにご存じでしょう。このコースでは、それに<em>見る</em>力を与える部分、"
        "つまり画像エンコーダ、コネクタ、学習、測定を自分で書きます。ここは読むためのページです。"
        "各章は、2 コアの CPU でノートブックを実行した後の姿です。",
        "read": "図と数値はその実行で得られたものです。多くのツールはクリックでき、クイズにも答えられます。"
        "自分で書く関数のヒントと解答はクリックすると開きます。まず自分で考えてみてください。",
        "run": "学ぶにはノートブックを開いてください。書いた関数はその場で確認され、学習するモデルはあなたのコードで動きます。",
        "skip": "本文へ",
        "chapters": "章",
        "home": "コース",
        "terms": "用語索引",
        "terms_intro": "用語ごとに、<strong>教える</strong>箇所と<strong>示す</strong>箇所を並べています。",
        "here": "このページの内容",
        "search": "コースを検索",
        "found": "検索結果",
        "theme": "明るい・暗い",
        "pages": "前の章と次の章",
        "previous": "前",
        "next": "次",
        "open": "実行する：",
        "download": "ノートブック (.ipynb)",
        "yours": "あなたの番です。ノートブックでこの関数を書くと、どこが正しいかがすぐに分かります。",
        "hint": "ヒント {number} / {last}",
        "solution": "解答",
        "kernel": "このツールはモデルに尋ねるため、ノートブックの中で動きます。図は使用中の様子です。",
        "recorded": "このページではボタンにある語だけを検索できます。ノートブックではどんな語でも検索できます。",
        "copy": "コピー",
        "copied": "コピー済み",
        "minutes": "分",
        "build": "作るもの",
        "chapter": "章",
        "gpu": "GPU",
        "section_link": "この節へのリンク",
        "foot": "MIT ライセンス。OpenMoji の絵は CC BY-SA 4.0。実行済みのノートブックから "
        "<code>make book</code> で作られました。",
    },
}
