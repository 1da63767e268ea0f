"""Every word of the annotator's interface, in English and in Chinese, and how numbers and times are written."""

from __future__ import annotations

from preference_data.texts.normalised_text import RIGHT, UNKNOWN, WRONG

LANGUAGES = {"en": "English", "zh": "中文"}

WORDS: dict[str, tuple[str, str]] = {
    # signing in
    "title": ("Glyphlab annotation", "Glyphlab 标注"),
    "name": ("Name", "用户名"),
    "password": ("Password", "密码"),
    "sign_in": ("Sign in", "登录"),
    "sign_in_oidc": ("Sign in with your organisation", "使用机构账号登录"),
    "sign_out": ("Sign out", "退出"),
    "continue": ("Continue", "继续"),
    "opening": ("Opening your session …", "正在进入……"),
    "session_ended": ("Your session was ended. Sign in again.", "会话已结束，请重新登录。"),
    "wrong": ("The name or the password is wrong.", "用户名或密码错误。"),
    "too_many": ("Too many failed log-ins. Try again in a quarter of an hour.", "登录失败次数过多，请一刻钟后再试。"),
    "no_account": ("No account belongs to this identity. Ask an administrator.", "此身份没有对应账号，请联系管理员。"),
    "not_here": ("There is nothing here for your account.", "您的账号无权查看此页面。"),
    # pages
    "annotate": ("Annotate", "标注"),
    "history": ("My answers", "我的答案"),
    "guidelines": ("Guidelines", "标注指南"),
    "account": ("Account", "账号"),
    "work": ("Work", "工作"),
    "lead": ("Lead", "负责人"),
    # the desk
    "campaign": ("Campaign", "任务"),
    "no_campaigns": ("No campaign is open at the moment.", "目前没有开放的任务。"),
    "waiting": (
        "Others hold what is left. New work appears here by itself.",
        "剩余的内容正由他人处理，有新任务时会自动显示。",
    ),
    "finished": ("You have done everything there is for you. Thank you!", "您已完成全部内容，谢谢！"),
    "elsewhere": ("There is work for you in: {names}", "以下任务仍有待您完成的内容：{names}"),
    "go_to": ("Go to {name}", "前往 {name}"),
    "closed": ("This campaign is closed.", "此任务已关闭。"),
    "prompt": ("Prompt", "提示词"),
    "must_show": ("Text that must appear", "必须出现的文字"),
    "left_picture": ("Left image", "左图"),
    "right_picture": ("Right image", "右图"),
    "picture_n": ("Image {n}", "图 {n}"),
    "reference": ("Reference", "参考图"),
    "source": ("Before the edit", "编辑前"),
    "source_n": ("Source {n}", "原图 {n}"),
    "alt": ("{which}, {width} by {height} pixels, to be compared", "{which}，{width}×{height} 像素，待比较"),
    "question": ("Which image is better for this prompt?", "哪张图更符合提示词？"),
    "question_n": ("Which image is the best, and which the worst?", "哪张最好，哪张最差？"),
    "left": ("Left", "左边"),
    "right": ("Right", "右边"),
    "tie": ("Tie", "相当"),
    "both_good": ("Both good", "都好"),
    "both_bad": ("Both bad", "都差"),
    "none_acceptable": ("None acceptable", "都不可接受"),
    "ranked": ("Best and worst", "最好与最差"),
    "skip": ("Skip", "跳过"),
    "flag": ("Flag a problem", "报告问题"),
    "best": ("Best", "最好"),
    "worst": ("Worst", "最差"),
    "best_n": ("Best: {n}", "最好：{n}"),
    "worst_n": ("Worst: {n}", "最差：{n}"),
    "submit": ("Submit", "提交"),
    "best_first": ("Choose a best and a different worst image first.", "请先选择不同的最好与最差图。"),
    "strength": ("How clear? (optional)", "差距大小？（可选）"),
    "strength_1": ("barely", "略"),
    "strength_3": ("clearly", "明显"),
    "strength_5": ("vastly", "悬殊"),
    "axes": (
        "One by one (optional; each press: left, right, tie, n/a)",
        "分项（可选；每按一次：左、右、相当、不适用）",
    ),
    "tags": ("Reasons (optional)", "原因（可选）"),
    "note": ("Note (optional)", "备注（可选）"),
    "axis_text": ("Text", "文字"),
    "axis_prompt": ("Prompt", "切题"),
    "axis_aesthetics": ("Aesthetics", "美感"),
    "axis_realism": ("Realism", "真实"),
    "value_left": ("left", "左"),
    "value_right": ("right", "右"),
    "value_tie": ("tie", "相当"),
    "value_na": ("n/a", "不适用"),
    "tag_typo": ("Typo", "错字"),
    "tag_missing_text": ("Missing text", "缺字"),
    "tag_duplicate_text": ("Duplicate text", "重复文字"),
    "tag_garbled_text": ("Garbled text", "乱码"),
    "tag_wrong_content": ("Wrong content", "内容不符"),
    "tag_hands": ("Hands", "手部"),
    "tag_faces": ("Faces", "脸部"),
    "tag_artefacts": ("Artefacts", "瑕疵"),
    "tag_composition": ("Composition", "构图"),
    "tag_unsafe": ("Unsafe", "不安全"),
    "undo": ("Undo", "撤销"),
    "cancel": ("Back to work", "返回"),
    "revising": (
        "You are changing an earlier answer: {outcome}. Answer again, or go back.",
        "正在修改之前的答案：{outcome}。请重新作答或返回。",
    ),
    "nothing_to_undo": ("There is no earlier answer.", "没有更早的答案。"),
    "last": ("Your last answer", "上一个答案"),
    "too_quick": (
        "That was quicker than anybody can look. The answer was not taken.",
        "过快，未看清图片，答案未提交。",
    ),
    "repeated": ("This was answered already.", "此题已作答。"),
    "changed_elsewhere": (
        "This was answered in another window. Here is your work as it is now.",
        "此题已在其他窗口作答，以下为最新内容。",
    ),
    "thanks_flag": ("Flagged. Somebody will look at it.", "已报告，将有人查看。"),
    # viewer
    "zoom_in": ("Zoom in", "放大"),
    "zoom_out": ("Zoom out", "缩小"),
    "fit": ("Fit", "适应"),
    "pixels": ("1:1 pixels", "1:1 像素"),
    "flicker": ("Flicker", "闪烁对比"),
    "pan": ("Pan", "平移"),
    "pan_left": ("Pan left", "左移"),
    "pan_up": ("Pan up", "上移"),
    "pan_down": ("Pan down", "下移"),
    "pan_right": ("Pan right", "右移"),
    "away": (
        "The server does not answer. What is answered now is not kept; the page goes on by itself.",
        "服务器没有响应，此时作答不会保存；恢复后页面会自动继续。",
    ),
    "lost": (
        "The server does not answer, and your last answer was not taken. Once it is back, answer again.",
        "服务器没有响应，您的上一个答案未保存。恢复后页面会自动继续，请重新作答。",
    ),
    "jump": ("Next text", "下一处文字"),
    "viewer_help": (
        "Wheel or + − zooms, drag or the arrows pan; both images move together.",
        "滚轮或 + − 缩放，拖动或方向键平移；两图同步。",
    ),
    # progress
    "done": ("Done", "已完成"),
    "remaining": ("Remaining", "剩余"),
    "pace": ("Pace", "速度"),
    "eta": ("Time left", "预计剩余"),
    "per_item": ("{seconds:.0f} s each", "每题 {seconds:.0f} 秒"),
    "minutes": ("{minutes:.0f} min", "{minutes:.0f} 分钟"),
    "hours": ("{hours:.1f} h", "{hours:.1f} 小时"),
    # evidence
    "evidence": ("What a machine read, against the prompt", "机器识别与提示词对照"),
    "read": ("Read", "识别"),
    "nothing_read": ("no text was found", "未识别到文字"),
    "not_read": (f"? {UNKNOWN}", "? 未能判断"),
    "diff_key": ("[−x−] is missing, {+y+} is too much", "[−x−] 表示缺少，{+y+} 表示多余"),
    "engine_reward": ("reward", "奖励模型"),
    "engine_judge": ("second recogniser", "第二识别器"),
    "engine_drawn": ("as rendered", "渲染文字"),
    "read_right": (RIGHT, "识别一致"),
    "read_wrong": (WRONG, "识别不一致"),
    # history, guidelines, account
    "change": ("Change", "修改"),
    "answer": ("Answer", "答案"),
    "role_annotator": ("annotator", "标注员"),
    "role_adjudicator": ("adjudicator", "裁决员"),
    "role_researcher": ("lead", "负责人"),
    "role_admin": ("admin", "管理员"),
    "reasons": ("Reasons", "原因"),
    "note_said": ("Note", "备注"),
    "no_history": ("You have not answered anything in this campaign yet.", "您在此任务中尚未作答。"),
    "shortcuts": ("Keys", "快捷键"),
    "language": ("Language", "语言"),
    "new_password": ("New password", "新密码"),
    "save": ("Save", "保存"),
    "saved": ("Saved.", "已保存。"),
    "password_first": (
        "You signed in with a one-time password. Choose a password of your own; then the pages open.",
        "您使用的是一次性密码。请先设置自己的密码，然后即可使用。",
    ),
    "password_new": ("10 to 256 characters, and not the one-time password", "10 至 256 个字符，且不能与一次性密码相同"),
    "password_rule": ("10 to 256 characters", "10 至 256 个字符"),
}

GUIDELINES = (
    """
**Look first at what was asked.** Read the prompt, then both images, and answer which image you would hand to
somebody who wrote that prompt.

1. **Text**: every quoted text must be there, once, letter by letter. A missing, doubled or wrong letter counts more
   than an ugly one.
2. **Prompt**: everything that was asked for, and nothing that contradicts it.
3. **Looks**: composition, colours, artefacts; for photographs also realism.

| answer | when |
|---|---|
| Left, Right | one is better, be it by little |
| Tie | they differ, and neither is better |
| Both good | both could be handed over as they are |
| Both bad | neither could be handed over |
| Skip | you cannot judge it (a language you do not read); somebody else will |
| Flag | something is wrong with the item: broken, unsafe, not a fair question |

Zoom in before you decide about small text. Answer by what you see, not by which side it is on: sides are random.
""",
    """
**先看要求。** 先读提示词，再看两张图，选出您愿意交给提示词作者的那一张。

1. **文字**：引号中的每段文字都必须出现一次，逐字正确。缺字、重复或错字比字形不美更严重。
2. **切题**：提示词要求的都有，且没有相矛盾的内容。
3. **观感**：构图、色彩、瑕疵；照片还要看真实感。

| 答案 | 何时选择 |
|---|---|
| 左边、右边 | 其中一张更好，哪怕只好一点 |
| 相当 | 两张不同，但不分高下 |
| 都好 | 两张都可以直接交付 |
| 都差 | 两张都不可交付 |
| 跳过 | 您无法判断（例如看不懂的语言），会交给他人 |
| 报告问题 | 题目本身有问题：损坏、不安全、问法不公平 |

判断小字之前请先放大。请根据所见作答，不要受左右位置影响：左右是随机的。
""",
)


def say(language: str, key: str) -> str:
    """The words of that key; English where the language is unknown."""
    return WORDS[key][1 if language == "zh" else 0]


def guidelines(language: str) -> str:
    """What applies where a campaign has no guidelines of its own (Markdown)."""
    return GUIDELINES[1 if language == "zh" else 0]


def duration(language: str, seconds: float) -> str:
    """Minutes below an hour and a half, hours from there."""
    if seconds < 5400:
        return say(language, "minutes").format(minutes=max(seconds / 60, 1))
    return say(language, "hours").format(hours=seconds / 3600)
