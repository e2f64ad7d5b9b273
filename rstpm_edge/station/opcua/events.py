"""ResultReady: the event of a verdict, for clients that would rather have events than values that change."""

from collections.abc import Mapping
from typing import Any

from asyncua import Server, ua

TYPE = "ResultReadyEventType"
_Type = ua.VariantType
FIELDS = {
    "ResultId": _Type.String,
    "PartId": _Type.String,
    "JobId": _Type.String,
    "ExternalRecipeId": _Type.String,
    "Verdict": _Type.String,
    "IsGood": _Type.Boolean,
    "ResultContent": _Type.String,
}
# Of OPC UA's severities, from 1 to 1000: low for a good part, and medium for one that is not.
GOOD, NOT_GOOD = 100, 500


class ResultReady:
    """Fires the event from the node of each line, to whoever subscribed to the events of that. Made by `make`."""

    def __init__(self, server: Server, kind: Any) -> None:
        self._server, self._kind = server, kind
        self._generators: dict[str, Any] = {}

    @classmethod
    async def make(cls, server: Server, namespace: int) -> "ResultReady":
        """Add the type of the event to the address space."""
        kind = await server.create_custom_event_type(namespace, TYPE, ua.ObjectIds.BaseEventType, list(FIELDS.items()))
        return cls(server, kind)

    async def add(self, name: str, node: ua.NodeId) -> None:
        """Let the node of the line `name` fire it."""
        self._generators[name] = await self._server.get_event_generator(self._kind, emitting_node=node)

    async def fire(self, name: str, values: Mapping[str, Any]) -> None:
        """Tell of a result of the line `name`, which has these `values`."""
        generator = self._generators[name]
        event = generator.event
        for field in FIELDS:
            setattr(event, field, values[field])
        event.Severity = GOOD if values["IsGood"] else NOT_GOOD
        await generator.trigger(time_attr=values["CreationTime"], message=f"{values['PartId']}: {values['Verdict']}")
