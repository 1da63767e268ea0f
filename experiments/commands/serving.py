"""Commands that keep something running for others."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class ServeRewards:
    """Serve a reward over HTTP; any run can then use it as remote:url=... Ctrl-C stops it.

    Example: glyphlab serve-rewards --reward ocr_page --workers 2
    """

    reward: str = "ocr"
    """a reward, its settings or a mixture: ocr, ocr:engine=paddleocr, 0.7*ocr+0.3*ocr_judge"""
    host: str = "127.0.0.1"
    """address to listen on; other than this machine's own only with a token"""
    port: int = 8100
    """to listen on"""
    workers: int = 1
    """processes, each with the reward loaded"""
    token_file: Path | None = None
    """holds the token that clients must show (at least 16 characters)"""
    max_megabytes: int = 64
    """of a request; more is refused"""
    max_side: int = 8192
    """pixels of an image's longer side; more is refused before it is unpacked"""

    def run(self) -> int:
        from preference_data.line_files import read_text
        from rewards.parse import named_reward
        from rewards.serving.reward_server import Service, serve
        from rewards.serving.wire import Limits

        token = read_text(self.token_file).strip() if self.token_file else None
        limits = Limits(bytes=self.max_megabytes * 2**20, side=self.max_side)
        service = Service(self.workers, token, limits)
        print(f"serving {self.reward} at http://{self.host}:{self.port} (POST /score, GET /health, GET /metrics)")
        serve(self.reward, named_reward(self.reward), service, self.host, self.port)
        return 0
