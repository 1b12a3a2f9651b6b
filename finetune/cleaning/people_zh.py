"""Names of people in Chinese: a surname and one or two characters, where words say that a name stands there.

Chinese has neither capitals nor spaces, so a name without such words cannot be told from other text by rules.
"""

import re
from collections.abc import Iterator
from typing import Final

from finetune.cleaning.spans import Span

_COMPOUND: Final = "欧阳|司马|上官|诸葛|司徒|东方|皇甫|尉迟|公孙|慕容|令狐|夏侯"
_COMMON: Final = (
    "王李张刘陈杨黄赵吴周徐孙马朱胡郭林罗郑梁谢宋唐许韩冯邓曹彭曾肖萧董袁潘蒋蔡魏薛叶阎余杜戴夏钟汪任姜范"
    "姚谭廖邹熊金陆郝孔崔康毛邱秦顾侯邵孟龙段雷钱汤尹黎贺龚庞樊殷施陶洪翟颜倪温季俞章鲁葛韦申尤毕聂焦向柳"
    "邢骆岳齐梅庄涂祁耿詹关费纪靳童欧甄裴"
)
_OFTEN_OTHER: Final = "高何于方白田石江史常万易武丁严安乔成时"  # surnames that begin many other words
_SURNAME: Final = f"(?:{_COMPOUND}|[{_COMMON}{_OFTEN_OTHER}])"
_HAN: Final = "[\u4e00-\u9fff]"
_SAID: Final = re.compile(
    rf"(?:我叫|名叫|我是|名字[是叫]|姓名[是为]?[:：]?\s?|(?:联系|收件|收货|申请|预订|入住)人[是为]?[:：]?\s?)({_SURNAME}{_HAN}{{1,2}}?)"
    r"(?=[\s，,。.！!；;、？?)）]|$|的|电话|手机|先生|女士)"
)
_TITLED: Final = re.compile(
    rf"((?:{_COMPOUND}|[{_COMMON}]){_HAN}{{0,2}}?|[{_OFTEN_OTHER}])(?=先生|女士|小姐|太太|老师|医生|大夫|经理|主任|师傅)"
)


def find_chinese_people(text: str) -> Iterator[Span]:
    """Yield names after words such as 我叫 and before titles such as 先生."""
    for pattern in (_SAID, _TITLED):
        yield from (Span(*match.span(1), "PERSON") for match in pattern.finditer(text))
