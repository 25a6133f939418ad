from __future__ import annotations

from django.contrib.auth.models import AbstractBaseUser, UserManager
from django.db import models

from django_tidb_autorandom import BigAutoRandomField


class Event(models.Model):
    id = BigAutoRandomField(primary_key=True)
    name = models.CharField(max_length=20, blank=True)


class ShortEvent(models.Model):
    id = BigAutoRandomField(primary_key=True, shard_bits=3, range=54)


class Comment(models.Model):
    event = models.ForeignKey(Event, models.CASCADE)


class Ticket(models.Model):
    title = models.CharField(max_length=20, blank=True)

    class Meta:
        tidb_auto_id_cache = 1


class JavaScriptEvent(models.Model):
    id = BigAutoRandomField(primary_key=True, javascript_safe=True)


class ProxyEvent(Event):
    class Meta:
        proxy = True


class Concert(Event):
    place = models.CharField(max_length=20, blank=True)


class WithRandomKey(models.Model):
    id = BigAutoRandomField(primary_key=True, shard_bits=4)

    class Meta:
        abstract = True


class Member(WithRandomKey):
    pass


class Account(AbstractBaseUser):
    """A user model, for tests that set AUTH_USER_MODEL to it."""

    id = BigAutoRandomField(primary_key=True)
    username = models.CharField(max_length=20, unique=True)
    email = models.EmailField()
    is_staff = models.BooleanField(default=False)
    is_superuser = models.BooleanField(default=False)
    is_active = models.BooleanField(default=True)

    objects = UserManager()

    USERNAME_FIELD = "username"
    REQUIRED_FIELDS = ["email"]
