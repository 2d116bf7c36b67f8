"""What is in the database: accounts, their entries, and a row for each job that was done."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import CheckConstraint, DateTime, ForeignKey, String, func
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship


class Base(DeclarativeBase):
    """The base of all models."""


class Account(Base):
    """An account; its balance is the sum of its entries, and the database lets none go below 0."""

    __tablename__ = "account"
    __table_args__ = (CheckConstraint("balance >= 0", name="not_overdrawn"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    owner: Mapped[str] = mapped_column(String(80))
    balance: Mapped[int] = mapped_column(default=0)
    entries: Mapped[list[Entry]] = relationship(back_populates="account", order_by="Entry.id")


class Entry(Base):
    """An amount that was put on an account; ``key`` is the client's, so that none counts twice."""

    __tablename__ = "entry"

    id: Mapped[int] = mapped_column(primary_key=True)
    account_id: Mapped[int] = mapped_column(ForeignKey(Account.id), index=True)
    amount: Mapped[int]
    key: Mapped[str] = mapped_column(String(80), unique=True)
    account: Mapped[Account] = relationship(back_populates="entries")


class Run(Base):
    """One time that a job was done, in the same transaction as what it did."""

    __tablename__ = "run"

    id: Mapped[int] = mapped_column(primary_key=True)
    key: Mapped[str] = mapped_column(String(80), index=True)
    actor: Mapped[str] = mapped_column(String(80))
    thread: Mapped[str] = mapped_column(String(80))
    gil: Mapped[bool]
    at: Mapped[datetime] = mapped_column(
        DateTime(timezone=True), server_default=func.clock_timestamp()
    )
