"""`StarterActor`: answers for all modules, from the board on which their states are folded."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pgflow_starter.core.state import ChildInfo, ModuleState, StarterStatus
from pgflow_starter.modules.board import Board
from pgflow_starter.supervision.actor import Actor
from pgflow_starter.supervision.tree import Tree

STARTER_ID = "starter"


class StarterActor(Actor):
    """The starter as a pykka actor. It keeps nothing to itself: its successor after a crash answers the same."""

    thread_name = "pgflow-starter"
    registered = True

    def __init__(self, board: Board, tree: Tree, children: Callable[[], tuple[ChildInfo, ...]]) -> None:
        super().__init__()
        self._board = board
        self._tree = tree
        self._children = children

    def on_start(self) -> None:
        self._tree.enter(STARTER_ID, self.actor_ref)

    def status(self) -> StarterStatus:
        """All modules now."""
        return self._board.status()

    def module_status(self, module: Any) -> ModuleState | None:
        """One module, None when it is unknown."""
        return self._board.state_of(module)

    def ready(self) -> bool:
        """Whether every module is terminal."""
        return self._board.status().ready

    def healthy(self) -> bool:
        """Whether at least one module succeeded, or there is none."""
        return self._board.status().healthy

    def retry_now(self, module: Any, asked: object | None = None) -> None:
        """An attempt at once; nothing for an unknown module. `asked` is what the observer said of who asks."""
        self._board.retry_now(module, asked)

    def which_children(self) -> tuple[ChildInfo, ...]:
        """The supervision tree, flat."""
        return self._children()
