"""The inventory in force, from several sources: the file, and Neutron if it is asked."""

from __future__ import annotations

from controller.inventory.file import InventoryFile
from controller.inventory.merge import merge
from controller.inventory.neutron import NeutronInventory
from controller.inventory.values import Inventory, InventoryChange, Pending


class InventorySources:
    """What the file declares and what Neutron knows, as one inventory; see ``merge``.

    Each source has its own brake. While one of them is not known, the whole is not.
    """

    def __init__(self, file: InventoryFile, neutron: NeutronInventory | None) -> None:
        self._file, self._neutron = file, neutron
        self._inventory, self._conflicts = Inventory(), tuple[str, ...]()

    @property
    def inventory(self) -> Inventory:
        """The inventory in force."""
        return self._inventory

    @property
    def problems(self) -> tuple[str, ...]:
        """What is wrong with the sources now, and where they contradict each other."""
        neutron = () if self._neutron is None else self._neutron.problems
        return (*self._file.problems, *neutron, *self._conflicts)

    @property
    def is_known(self) -> bool:
        """Whether each source was read since the start, or is kept from before."""
        return self._file.is_known and (self._neutron is None or self._neutron.is_known)

    @property
    def vanish_limit(self) -> float:
        """The share (0..1) of ports or links that may vanish before a source is pending."""
        return self._file.vanish_limit

    @property
    def pending(self) -> Pending | None:
        """What needs a word of the operator: first the file, then Neutron."""
        neutron = None if self._neutron is None else self._neutron.pending
        return self._file.pending or neutron

    def accept(self, digest: str) -> None:
        """Have what is pending taken by the next ``reload_if_changed``.

        Raises:
            Refused: nothing is pending, or something else.
        """
        if self._file.pending is None and self._neutron is not None and self._neutron.pending:
            self._neutron.accept(digest)
        else:
            self._file.accept(digest)

    def trust_file(self) -> None:
        """Have the next look take the file for a whole one."""
        self._file.trust_file()

    def with_others(self, declared: Inventory) -> Inventory:
        """The inventory that would be in force if the file declared this."""
        if self._neutron is None:
            return declared
        return merge(declared, self._neutron.inventory)[0]

    def reload_if_changed(self) -> InventoryChange | None:
        """Look at each source once; None when neither the inventory nor the problems changed."""
        before, problems = self._inventory, self.problems
        has_changed = self._file.reload_if_changed() is not None
        if self._neutron is not None:
            has_changed |= self._neutron.look()
        if has_changed:
            self._merge()
        if self._inventory == before and self.problems == problems:
            return None
        return InventoryChange(before, self._inventory, self.problems)

    def _merge(self) -> None:
        if self._neutron is None:
            self._inventory = self._file.inventory
        else:
            self._inventory, self._conflicts = merge(self._file.inventory, self._neutron.inventory)
