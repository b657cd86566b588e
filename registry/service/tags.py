"""Tags: notes on commits, for people. A tag never moves, decides nothing, and hides behind an alias of its name."""

from registry.domain.errors import NameTaken, TagNotFound, VersionNotFound
from registry.domain.records import Tag
from registry.domain.reference import AdapterName, check_tag
from registry.domain.rights import Scope
from registry.domain.texts import check_text
from registry.service.core import UseCases
from registry.service.editing import held
from registry.sql.catalog import Catalog


class Tags(UseCases):
    """Create, find and delete tags."""

    def create_tag(self, name: AdapterName, tag: str, commit: str, *, message: str = "") -> Tag:
        """Give a commit (40 hex) of an adapter a name.

        Raises InvalidReference for a name that is reserved, NameTaken for one that a tag or an alias has,
        AdapterNotFound, Gone, VersionNotFound, NotAllowed.
        """
        check_tag(tag)
        check_text("the message", message)
        with self.database.writing() as catalog:
            self.require(catalog, name, Scope.WRITE)
            stored = held(catalog, name).name
            if catalog.commits.find(stored, commit) is None:
                raise VersionNotFound(str(stored), f"commit {commit}")
            if catalog.aliases.find(stored, tag) is not None:
                raise NameTaken(tag, "there is an alias of that name")
            made = Tag(stored, tag, commit, message, self.actor, self.clock())
            if not catalog.tags.add(made):
                raise NameTaken(tag, "there is a tag of that name")
            catalog.events.append("tag.created", stored, {"tag": tag, "commit": commit}, actor=self.actor)
        return made

    def tags(self, name: AdapterName) -> list[Tag]:
        """An adapter's tags, by name. Raises AdapterNotFound."""
        with self.database.reading() as catalog:
            self.require(catalog, name)
            return catalog.tags.list(name)

    def tag(self, name: AdapterName, tag: str) -> Tag:
        """The tag of that name, in any case. Raises TagNotFound, AdapterNotFound."""
        with self.database.reading() as catalog:
            self.require(catalog, name)
            return _found(catalog, name, tag)

    def delete_tag(self, name: AdapterName, tag: str) -> Tag:
        """Forget a tag. Raises TagNotFound, AdapterNotFound, NotAllowed."""
        with self.database.writing() as catalog:
            self.require(catalog, name, Scope.WRITE)
            stored = held(catalog, name).name
            found = _found(catalog, stored, tag)
            catalog.tags.delete(stored, tag)
            payload = {"tag": found.name, "commit": found.commit}
            catalog.events.append("tag.deleted", stored, payload, actor=self.actor)
        return found


def _found(catalog: Catalog, name: AdapterName, tag: str) -> Tag:
    found = catalog.tags.find(name, tag)
    if found is None:
        raise TagNotFound(str(name), tag)
    return found
