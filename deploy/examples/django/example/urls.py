"""The pages."""

from django.contrib.auth.views import LoginView
from django.urls import path
from moves import views

urlpatterns = [
    path("", views.moves, name="moves"),
    path("login/", LoginView.as_view(), name="login"),
    path("moves/<int:pk>/", views.move, name="move"),
    path("moves/<int:pk>/progress/", views.progress, name="progress"),
]
