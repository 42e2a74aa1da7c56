"""What settings are called outside, and where their values come from."""

from collections.abc import Mapping
from typing import Any

from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource

ENV_FILE = ".env"


def environment_name(field: str) -> str:
    """The one name that a setting has outside: its field's in capitals, but for AITBC_HOME."""
    return "AITBC_HOME" if field == "home" else field.upper()


class ByName(PydanticBaseSettingsSource):
    """What the environment or a `.env` file says, each setting by its documented name and by no other.

    The library's own source also takes a field's name, in any case: HOME was then taken for AITBC_HOME. What
    is empty counts as not set.
    """

    def __init__(self, settings_cls: type[BaseSettings], values: Mapping[str, str | None]) -> None:
        super().__init__(settings_cls)
        self._values = values

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        return self._values.get(environment_name(field_name)) or None, field_name, False

    def __call__(self) -> dict[str, Any]:
        found = {
            name: self.get_field_value(field, name)[0]
            for name, field in self.settings_cls.model_fields.items()
        }
        return {name: value for name, value in found.items() if value is not None}
