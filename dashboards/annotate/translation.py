"""Sentences of the service in Chinese. What has none, such as what is wrong with a line of a file, stays English."""

from __future__ import annotations

from preference_data.sentences import Sentence

# ruff: noqa: RUF001 (full-width punctuation is meant)

CHINESE: dict[str, str] = {
    # coefficients
    "Krippendorff's alpha, nominal": "Krippendorff α（名义）",
    "Krippendorff's alpha, ordinal": "Krippendorff α（有序）",
    "Cohen's kappa": "Cohen κ",
    "Gwet's AC1": "Gwet AC1",
    "undefined: no two annotators answered the same item": "未定义：没有两人回答过同一题",
    "undefined: every annotator gave one and the same answer, so nothing differs from chance":
        "未定义：每位标注员的答案都相同，无法与偶然区分",
    "undefined: no item has two answers": "未定义：没有任何题有两个答案",
    "undefined: the paired answers are all alike, so agreement cannot be told from chance":
        "未定义：成对的答案全部相同，一致与偶然无法区分",
    "undefined: every answer is {only!r}, so agreement cannot be told from chance":
        "未定义：所有答案都是 {only!r}，一致与偶然无法区分",
    "no interval: too few items, or too few with rarer answers (chance makes two agree on one of these in "
    "{rare:.1f} items, and {least:.0f} are needed)":
        "无区间：题目太少，或较少见的答案太少（预计有 {rare:.1f} 道题两人偶然同选此类答案，至少需 {least:.0f} 道）",
    # annotators
    "chose the left side in {share:.0%} of {count} decided answers, where half is expected (p = {p:.1g})":
        "在 {count} 个有胜负的答案中 {share:.0%} 选左，应约为一半（p = {p:.1g}）",
    "agrees with the others hardly more than chance does (kappa {kappa:.2f}, at most {high:.2f}), while they agree "
    "among each other (median {usual:.2f})":
        "与他人的一致几乎不高于偶然（kappa {kappa:.2f}，至多 {high:.2f}），而他人彼此一致（中位数 {usual:.2f}）",
    "answered {right} of {count} gold items as expected": "{count} 道金标准题中答对 {right} 道",
    "answered {right} of {count} attention checks as expected": "{count} 次注意力检查中通过 {right} 次",
    "takes {own:.1f} s an answer where the others take {others:.1f} s":
        "每题用时 {own:.1f} 秒，他人为 {others:.1f} 秒",
    # rating models
    "the tie parameter needs ties and decided comparisons; use bradley_terry without ties":
        "平局参数需要既有平局又有胜负的比较；没有平局时请看 Bradley-Terry",
    "the ratings did not settle in {steps} steps; some item may win everything, try a prior":
        "评分在 {steps} 步内未收敛；可能有模型全胜，请收集更多比较",
    "there is no comparison to learn from": "还没有可用的比较",
    "{group} never lost to or tied with the rest of {M}, or was never compared with it: the difference has no "
    "finite estimate; compare more, or give a prior such as 2.0":
        "{group} 对其余模型（共 {M} 个）从未负或平，或从未与之比较：差距没有有限的估计，请收集更多比较",
    "{best} never lost, and no win contradicts a tie among the {M}: with a parameter for ties the difference has "
    "no finite estimate; compare more, give a prior such as 2.0, or count a tie as half a win (Bradley-Terry)":
        "{best} 从未落败，且全部 {M} 个模型的胜负与平局互不矛盾：含平局参数时差距没有有限的估计，"
        "请收集更多比较，或将平局计为半胜（Bradley-Terry）",
    # accounts and campaigns
    "the name {name!r} must have 1 to 120 characters": "名称 {name!r} 须为 1 至 120 个字符",
    "the name {name!r} must have 1 to 120 printable characters": "用户名 {name!r} 须为 1 至 120 个可见字符",
    "there is a campaign {name!r} already; choose another name": "任务 {name!r} 已存在，请换一个名称",
    "there is an account {name!r} (or with this identity) already": "账号 {name!r}（或此身份的账号）已存在",
    "nothing is left to compare; are these the prompts that the images show?":
        "没有可比较的内容；这些是图片的提示词吗？",
    "items with a known answer compare two images; leave the file out for more images":
        "已知答案的题只用于两图比较；多图题型请不要填此文件",
    "name a folder or a file": "请填写文件夹或文件",
    "{run} kept no samples; is it the folder of a run?": "{run} 中没有样图；它是运行目录吗？",
    "{text} lies outside of {root}/, the folder that this server was told to look in":
        "{text} 不在 {root}/ 之内，服务器只能读取该文件夹",
    "there is no {text} in {root}/": "{root}/ 中没有 {text}",
    "name both makers and upload images of each": "请填写两个模型的名称，并各自上传图片",
    "{n} files at once; at most {most} are taken": "一次上传了 {n} 个文件，最多 {most} 个",
    "both makers are called {name!r}": "两个模型同名：{name!r}",
    # exports
    "{edits} of {all} judgements are about edits, and {kind} has no place for the images that were edited; choose one "
    "of {others}": "{all} 条判断中有 {edits} 条是关于编辑的，而 {kind} 无法存放被编辑的原图；请选择 {others} 之一",
    "{left} of {all} judgements are ties, which {kind} cannot hold; say ties=drop, or ties=aside to keep them in a "
    "file beside it":
        "{all} 个判断中有 {left} 个平局，{kind} 格式无法保存；请选择略去，或另存文件",
    "there is nothing to write as {kind}: {all} judgements, {left} of them ties":
        "没有可写为 {kind} 的内容：{all} 个判断，其中 {left} 个平局",
}  # fmt: skip


def translated(language: str, answer: str | Exception) -> str:
    """A sentence, or what an error says, in that language; as it is where there are no other words for it."""
    if isinstance(answer, Exception):
        answer = answer.args[0] if answer.args and isinstance(answer.args[0], Sentence) else str(answer)
    if language != "zh":
        return str(answer)
    if isinstance(answer, Sentence):
        return CHINESE.get(answer.pattern, answer.pattern).format_map(answer.values)
    return CHINESE.get(answer, answer)
