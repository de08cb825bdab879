from django.db import migrations, models


class Migration(migrations.Migration):
    initial = True

    operations = (
        migrations.CreateModel(
            "Order",
            [
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("customer", models.CharField(max_length=100)),
                ("state", models.CharField(default="placed", max_length=20)),
                ("greeted", models.BooleanField(default=False)),
            ],
        ),
    )
